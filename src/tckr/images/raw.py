"""What the readers of image sources share: raw images and tables of them, and how columns and splits are named."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tckr.errors import UserError

GivenSplit = Literal["pool", "test"]

TEST_NAMES = frozenset({"test", "testing", "t10k"})
POOL_NAMES = frozenset(
    {"train", "training", "val", "valid", "validation", "dev", "members", "holdout", "pool"}
)
# Usual names of columns, in the order of preference.
IMAGE_COLUMNS = (
    "image",
    "img",
    "images",
    "png",
    "path",
    "image_path",
    "file",
    "file_name",
    "filename",
    "filepath",
    "pixels",
)
LABEL_COLUMNS = ("label", "labels", "class", "class_name", "target", "category", "y", "diagnosis")
SPLIT_COLUMNS = ("split", "partition", "subset")


@dataclass(frozen=True, slots=True)
class RawImage:
    """One image as it is in the source.

    Attributes:
        name: Where it is: path inside the source, or file and row; shown in reports.
        content: A file to be read, encoded bytes, pixels, or None if the source has nothing.
        label: Name of its class; None if the source has none.
        split: "test" if the source says so, else "pool".
    """

    name: str
    content: Path | bytes | np.ndarray | None
    label: str | None
    split: GivenSplit = "pool"


@dataclass(frozen=True)
class RawTable:
    """A source opened but not read.

    Attributes:
        format: Name of the format, for the report.
        images: The images, read during iteration so that they are never all in memory.
        count: Their number.
        class_names: Classes in the source's own order, if it gives one.
    """

    format: str
    images: Iterable[RawImage]
    count: int
    class_names: tuple[str, ...] | None = None


def given_split(value: Any) -> GivenSplit:
    """Return "test" if that is what a source's name of a split means, else "pool".

    >>> given_split("Testing"), given_split("val"), given_split(None)
    ('test', 'pool', 'pool')
    """
    return "test" if str(value).strip().lower() in TEST_NAMES else "pool"


def image_column(columns: Sequence[str], wanted: str | None, source: str) -> str:
    """Return the name of the column of images or paths.

    Raises:
        UserError: There is none, or not the wanted one.

    >>> image_column(["ID", "Image", "label"], None, "cats.parquet")
    'Image'
    """
    found = _find(columns, wanted, IMAGE_COLUMNS, "image_column", source)
    if found is None:
        raise UserError(
            f"{source} has no column of images (columns: {', '.join(columns)}).",
            "name it with ingestion.image_column.",
        )
    return found


def label_column(columns: Sequence[str], wanted: str | None, source: str) -> str:
    """Return the name of the column of labels.

    Raises:
        UserError: There is none, or not the wanted one.
    """
    found = _find(columns, wanted, LABEL_COLUMNS, "label_column", source)
    if found is None:
        raise UserError(
            f"Labels are missing: {source} has no label column (columns: {', '.join(columns)}).",
            "name it with ingestion.label_column, or add one.",
        )
    return found


def split_column(columns: Sequence[str], wanted: str | None, source: str) -> str | None:
    """Return the name of the column of splits; None if the source has none.

    Raises:
        UserError: The wanted one does not exist.
    """
    return _find(columns, wanted, SPLIT_COLUMNS, "split_column", source)


def _find(
    columns: Sequence[str], wanted: str | None, usual: Sequence[str], option: str, source: str
) -> str | None:
    if wanted is not None:
        if wanted not in columns:
            raise UserError(
                f"{source} has no column {wanted!r} (columns: {', '.join(columns)}).",
                f"put one of them into ingestion.{option}.",
            )
        return wanted
    by_lower = {name.strip().lower(): name for name in reversed(columns)}
    return next((by_lower[name] for name in usual if name in by_lower), None)
