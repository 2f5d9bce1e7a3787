"""Where a dataset lies."""

from pathlib import Path
from typing import Any

from kedro.io.core import AbstractVersionedDataset


def saved_path(dataset: Any) -> Path:
    """Return where `dataset` has just been saved; Kedro has no public way to ask."""
    if isinstance(dataset, AbstractVersionedDataset) and dataset.resolve_save_version() is not None:
        return Path(dataset._get_versioned_path(dataset.resolve_save_version()))
    return Path(dataset._filepath)
