"""The recycled set as other tools want it."""

from typing import Any, Literal

import pandas as pd

from tckr.images.export import Export


def export_set(
    recycled_set: pd.DataFrame,
    export_format: Literal["folder", "webdataset"],
    ledger: Any = None,
) -> Export:
    """Hand on the recycled set with the format in which it will be written; see `tckr.datasets.export`.

    Raises:
        UserError: the set is of an arm under differential privacy whose noise came from a seed.
    """
    if ledger is not None:
        ledger.check_release()
    return Export(recycled_set, export_format)
