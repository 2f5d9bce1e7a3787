"""Kedro's own tables and JSON files, written whole or not at all."""

from pathlib import Path, PurePosixPath
from typing import Any

from kedro_datasets import json, pandas

from tckr.datasets.folder import written_whole


class _Whole:
    """Put before one of Kedro's file datasets, it lets the dataset write under a temporary name beside the final one.

    Everything else, parameters and previews included, stays Kedro's.
    """

    _unfinished: PurePosixPath | None = None

    def save(self, data: Any) -> None:
        """Write a new version, then give it its name in one step."""
        with written_whole(Path(self._get_save_path())) as unfinished:
            self._unfinished = PurePosixPath(unfinished)
            try:
                super().save.__wrapped__(self, data)  # type: ignore[misc]  # Kedro's own, without its log lines
            finally:
                self._unfinished = None

    def _get_save_path(self) -> PurePosixPath:
        path: PurePosixPath = self._unfinished or super()._get_save_path()  # type: ignore[misc]
        return path


class JSONDataset(_Whole, json.JSONDataset):
    """`json.JSONDataset` whose file is there once it is complete.

    In the catalog:

    ```yaml
    metrics:
      type: tckr.datasets.whole.JSONDataset
      filepath: data/08_reporting/metrics.json
      versioned: true
    ```

    In Python:

    >>> import tempfile
    >>> metrics = JSONDataset(filepath=f"{tempfile.mkdtemp()}/metrics.json")
    >>> metrics.save({"accuracy": 93.8})
    >>> metrics.load()
    {'accuracy': 93.8}
    """


class CSVDataset(_Whole, pandas.CSVDataset):
    """`pandas.CSVDataset` whose file is there once it is complete."""


class ParquetDataset(_Whole, pandas.ParquetDataset):
    """`pandas.ParquetDataset` whose file is there once it is complete."""
