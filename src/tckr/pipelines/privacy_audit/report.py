"""The node that writes the report."""

from typing import Any

import pandas as pd
from PIL import Image

from tckr.reporting.report import write_report as page


def write_report(
    audit: dict[str, Any],
    accuracy: dict[str, Any],
    ingestion_report: dict[str, Any],
    student_recipe: dict[str, Any],
    recycled_set: pd.DataFrame,
    parameters: dict[str, Any],
    **pictures: Image.Image,
) -> str:
    """Write the page that a privacy officer reads; see `tckr.reporting.report`."""
    return page(
        audit, accuracy, ingestion_report, student_recipe, recycled_set, pictures, parameters
    )
