"""Read tables that hold the images themselves: Parquet, Arrow, and folders saved by `datasets`."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tckr.errors import UserError
from tckr.images.arrays import check_expansion
from tckr.images.labels import Kind, Labels, group_name, reconciled
from tckr.images.lists import Files
from tckr.images.options import IngestionOptions
from tckr.images.places import given_split, split_of_place
from tckr.images.raw import (
    Again,
    RawImage,
    RawTable,
    group_column,
    image_column,
    label_column,
    readable,
    split_column,
)

# Rows in memory at once; large photographs are encoded here, a few hundred kilobytes each.
BATCH = 256
# Bytes of images in memory at once: a value that a Parquet file holds once may stand in every row.
BATCH_BYTES = 256 * 2**20


def read_parquet(files: Sequence[Path], root: Path, options: IngestionOptions) -> RawTable:
    """Read Parquet files of the same columns.

    Without a split column, the split is that of a file's name (test-00000.parquet), or of its folder below `root`.

    Raises:
        UserError: A file is damaged or lacks a column, or the files do not name their classes alike.
    """
    opened = [_open(file, pq.ParquetFile) for file in files]
    rows = [
        _Rows(file, parquet.schema_arrow, options, split_of_place(file, root, options.test_split))
        for file, parquet in zip(files, opened, strict=True)
    ]

    def images() -> Iterator[RawImage]:
        for part, parquet in zip(rows, opened, strict=True):
            yield from part.of(_sound(_batches(parquet, part), part.file))

    names = reconciled([part.labels for part in rows])
    return RawTable("Parquet", Again(images), sum(file.metadata.num_rows for file in opened), names)


def read_arrow(path: Path, options: IngestionOptions) -> RawTable:
    """Read one Arrow file, in the stream format of `datasets` or the file format (Feather).

    Raises:
        UserError: It is damaged or lacks a column.
    """
    schema, count = _open(path, _arrow_size)
    rows = _Rows(path, schema, options, split_of_place(path, path.parent, options.test_split))

    def images() -> Iterator[RawImage]:
        batches = _sound(_arrow_batches(path), path)
        yield from rows.of(part for batch in batches for part in _sliced(batch))

    return RawTable("Arrow", Again(images), count, reconciled([rows.labels]))


def read_saved(folder: Path, options: IngestionOptions) -> RawTable:
    """Read a folder written by `datasets.Dataset.save_to_disk` or `DatasetDict.save_to_disk`.

    Raises:
        UserError: It is damaged, lacks a column, or its splits do not name their classes alike.
    """
    from datasets import Dataset, load_from_disk  # slow to import, and only this source needs it

    loaded = _open(folder, lambda path: load_from_disk(str(path)))
    parts = {"": loaded} if isinstance(loaded, Dataset) else dict(loaded)
    rows = [
        _Rows(folder / split, part.features.arrow_schema, options, split if len(parts) > 1 else "")
        for split, part in parts.items()
    ]

    def images() -> Iterator[RawImage]:
        for one, part in zip(rows, parts.values(), strict=True):
            tables = part.with_format("arrow").iter(BATCH)
            yield from one.of(batch for table in tables for batch in table.to_batches())

    count = sum(part.num_rows for part in parts.values())
    return RawTable(
        "datasets folder", Again(images), count, reconciled([one.labels for one in rows])
    )


class _Rows:
    """Turn the batches of one file into raw images."""

    def __init__(self, file: Path, schema: pa.Schema, options: IngestionOptions, split: str):
        columns, where = schema.names, str(file)
        self.file = file
        wanted = options.image_column or _image_feature(schema)
        self.image = image_column(columns, wanted, where)
        self.label = label_column(columns, options.label_column, where)
        self.split = split_column(columns, options.split_column, where)
        self.group = group_column(columns, options.group_column, where)
        self.labels = Labels(
            where, _names(schema, self.label), _kind(schema.field(self.label).type)
        )
        self._by_place = split
        self._options = options
        self._files = Files(file, options)

    @property
    def columns(self) -> list[str]:
        """Names of the columns that are read."""
        return [name for name in (self.image, self.label, self.split, self.group) if name]

    def of(self, batches: Iterable[pa.RecordBatch]) -> Iterator[RawImage]:
        """Yield the images of the batches; the place's split applies if there is no split column."""
        row, where, test_split = 0, str(self.file), self._options.test_split
        by_place = given_split(self._by_place, test_split, where)
        for batch in batches:
            labels = batch.column(self.label).to_pylist()
            splits = batch.column(self.split).to_pylist() if self.split else None
            groups = batch.column(self.group).to_pylist() if self.group else None
            for index, image in enumerate(batch.column(self.image)):
                group = None if groups is None else group_name(groups[index], where)
                yield RawImage(
                    name=readable(f"{self.file.name}, row {row}"),
                    content=self._content(image.as_py()),
                    label=self.labels(labels[index]),
                    split=given_split(splits[index], test_split, where) if splits else by_place,
                    group=group,
                )
                row += 1

    def _content(self, value: Any) -> Path | bytes | np.ndarray | None:
        if isinstance(value, dict):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, str):
            return self._files.find(value) if value else None
        if value is None or isinstance(value, bytes):
            return value
        try:
            return np.asarray(value)
        except ValueError:  # rows of different lengths
            return np.zeros(0)


def _batches(parquet: pq.ParquetFile, rows: _Rows) -> Iterator[pa.RecordBatch]:
    """Yield batches so small that no dictionary (one value that stands in many rows) can fill the memory."""
    for number in range(parquet.metadata.num_row_groups):
        group = parquet.metadata.row_group(number)
        chunks = [group.column(index) for index in range(group.num_columns)]
        wanted = [chunk for chunk in chunks if chunk.path_in_schema.split(".")[0] in rows.columns]
        size = sum(chunk.total_uncompressed_size for chunk in wanted)
        check_expansion(str(rows.file), sum(chunk.total_compressed_size for chunk in wanted), size)
        coded = any("DICTIONARY" in name for chunk in wanted for name in chunk.encodings)
        length = min(BATCH, max(1, BATCH_BYTES // max(size, 1))) if coded else BATCH
        yield from parquet.iter_batches(length, row_groups=[number], columns=rows.columns)


def _sound(batches: Iterator[pa.RecordBatch], path: Path) -> Iterator[pa.RecordBatch]:
    """Yield batches, and say in one line where the file turns out to be damaged."""
    while (batch := _open(path, lambda _: next(batches, None))) is not None:
        yield batch


def _arrow_size(path: Path) -> tuple[pa.Schema, int]:
    count, schema = 0, None
    for batch in _arrow_batches(path):
        count, schema = count + batch.num_rows, batch.schema
    if schema is None:
        with pa.memory_map(str(path)) as source:
            schema = pa.ipc.open_stream(source).schema
    return schema, count


def _arrow_batches(path: Path) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(str(path)) as source:
        try:
            file = pa.ipc.open_file(source)
        except pa.ArrowInvalid:
            source.seek(0)
            yield from pa.ipc.open_stream(source)
            return
        for number in range(file.num_record_batches):
            yield file.get_batch(number)


def _sliced(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    for start in range(0, batch.num_rows, BATCH):
        yield batch.slice(start, BATCH)


def _open(path: Path, opener: Callable[[Path], Any]) -> Any:
    try:
        return opener(path)
    except UserError:
        raise
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
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
        return {name: feature for name, feature in features.items() if isinstance(feature, dict)}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _image_feature(schema: pa.Schema) -> str | None:
    return next(
        (name for name, feature in _features(schema).items() if feature.get("_type") == "Image"),
        None,
    )


def _names(schema: pa.Schema, label: str) -> Sequence[Any] | None:
    return _features(schema).get(label, {}).get("names") or None


def _kind(type_: pa.DataType) -> Kind:
    if pa.types.is_dictionary(type_):
        type_ = type_.value_type
    numbers = (
        pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_decimal(type_)
    )
    return "numbers" if numbers else "text"
