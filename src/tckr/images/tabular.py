"""Read tables that hold the images themselves: Parquet, Arrow, and folders saved by `datasets`."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tckr.errors import UserError
from tckr.images.options import IngestionOptions
from tckr.images.raw import (
    GivenSplit,
    RawImage,
    RawTable,
    given_split,
    image_column,
    label_column,
    split_column,
)

# Rows in memory at once; large photographs are encoded here, a few hundred kilobytes each.
BATCH = 256
TEST_FILE = re.compile(r"(^|[^a-z])test([^a-z]|$)", re.IGNORECASE)


def read_parquet(files: list[Path], options: IngestionOptions) -> RawTable:
    """Read Parquet files with one schema; without a split column, a file named test... is the test split."""
    opened = [_open(file, pq.ParquetFile) for file in files]
    names = _class_names(opened[0].schema_arrow, options)

    def images() -> Iterator[RawImage]:
        for file, parquet in zip(files, opened, strict=True):
            rows = _Rows(
                file, parquet.schema_arrow, options, _class_names(parquet.schema_arrow, options)
            )
            wanted = [name for name in (rows.image, rows.label, rows.split) if name]
            yield from rows.of(parquet.iter_batches(BATCH, columns=wanted))

    return RawTable("Parquet", images(), sum(file.metadata.num_rows for file in opened), names)


def read_arrow(path: Path, options: IngestionOptions) -> RawTable:
    """Read one Arrow file, in the stream format of `datasets` or the file format (Feather)."""
    try:
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all()
    except pa.ArrowInvalid:
        table = _open(path, lambda file: pa.ipc.open_stream(pa.memory_map(str(file))).read_all())
    names = _class_names(table.schema, options)
    rows = _Rows(path, table.schema, options, names)
    return RawTable("Arrow", rows.of(table.to_batches(BATCH)), table.num_rows, names)


def read_saved(folder: Path, options: IngestionOptions) -> RawTable:
    """Read a folder written by `datasets.Dataset.save_to_disk` or `DatasetDict.save_to_disk`."""
    from datasets import Dataset, load_from_disk  # slow to import, and only this source needs it

    loaded = _open(folder, lambda path: load_from_disk(str(path)))
    parts = {"": loaded} if isinstance(loaded, Dataset) else dict(loaded)
    first = next(iter(parts.values())).features.arrow_schema
    names = _class_names(first, options)

    def images() -> Iterator[RawImage]:
        for split, part in parts.items():
            rows = _Rows(folder / split, part.features.arrow_schema, options, names)
            tables = part.with_format("arrow").iter(BATCH)
            yield from rows.of(
                (batch for table in tables for batch in table.to_batches()), given_split(split)
            )

    return RawTable(
        "datasets folder", images(), sum(part.num_rows for part in parts.values()), names
    )


class _Rows:
    """Turn the batches of one file into raw images."""

    def __init__(
        self,
        file: Path,
        schema: pa.Schema,
        options: IngestionOptions,
        classes: tuple[str, ...] | None,
    ):
        columns = schema.names
        self.file = file
        self.classes = classes
        self.image = (
            options.image_column or _image_feature(schema) or image_column(columns, None, str(file))
        )
        self.image = image_column(columns, self.image, str(file))
        self.label = label_column(columns, options.label_column, str(file))
        self.split = split_column(columns, options.split_column, str(file))

    def of(
        self, batches: Iterator[pa.RecordBatch], split: GivenSplit | None = None
    ) -> Iterator[RawImage]:
        """Yield the images of the batches; `split` applies if there is no split column."""
        by_file: GivenSplit = split or ("test" if TEST_FILE.search(self.file.stem) else "pool")
        row = 0
        for batch in batches:
            labels = batch.column(self.label).to_pylist()
            splits = batch.column(self.split).to_pylist() if self.split else None
            for index, image in enumerate(batch.column(self.image)):
                yield RawImage(
                    name=f"{self.file.name}, row {row}",
                    content=_content(image.as_py(), self.file.parent),
                    label=self._class(labels[index]),
                    split=given_split(splits[index]) if splits else by_file,
                )
                row += 1

    def _class(self, value: Any) -> str | None:
        if value is None or (isinstance(value, float) and np.isnan(value)):
            return None
        if self.classes is None or isinstance(value, str):
            return str(value) or None
        # `datasets` writes -1 for a withheld label.
        return self.classes[value] if 0 <= value < len(self.classes) else None


def _content(value: Any, folder: Path) -> Path | bytes | np.ndarray | None:
    if isinstance(value, dict):
        path = value.get("path")
        return value.get("bytes") or (folder / path if path else None)
    if isinstance(value, str):
        return folder / value
    if value is None or isinstance(value, bytes):
        return value
    try:
        return np.asarray(value)
    except ValueError:  # rows of different lengths
        return np.zeros(0)


def _open(path: Path, opener: Callable[[Path], Any]) -> Any:
    try:
        return opener(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        problem = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path} cannot be opened: it is damaged or of another format ({problem}).",
            "write the file again.",
        ) from error


def _features(schema: pa.Schema) -> dict[str, Any]:
    """Return the feature types that `datasets` stores in the schema's metadata."""
    metadata = (schema.metadata or {}).get(b"huggingface")
    try:
        features = json.loads(metadata)["info"]["features"] if metadata else {}
    except (ValueError, KeyError, TypeError):
        features = {}
    return {name: feature for name, feature in features.items() if isinstance(feature, dict)}


def _image_feature(schema: pa.Schema) -> str | None:
    return next(
        (name for name, feature in _features(schema).items() if feature.get("_type") == "Image"),
        None,
    )


def _class_names(schema: pa.Schema, options: IngestionOptions) -> tuple[str, ...] | None:
    column = label_column(schema.names, options.label_column, "the table")
    names = _features(schema).get(column, {}).get("names")
    return tuple(names) if names else None
