"""The recycled set as other tools want it."""

from typing import Literal

import pandas as pd

from tckr.images.export import Export


def export_set(
    recycled_set: pd.DataFrame, export_format: Literal["folder", "webdataset"]
) -> Export:
    """Hand on the recycled set with the format in which it will be written; see `tckr.datasets.export`."""
    return Export(recycled_set, export_format)
