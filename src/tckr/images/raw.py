"""What the readers of image sources share: raw images and tables of them, and how columns are named."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from tckr.errors import UserError

GivenSplit = Literal["pool", "test"]

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
# Images per task of a thread: with fewer, threads compete for the interpreter over small images.
BATCH = 64
BATCH_BYTES = 64 * 2**20
SPLIT_COLUMNS = ("split", "partition", "subset")


@dataclass(frozen=True, slots=True)
class RawImage:
    """One image as it is in the source.

    Attributes:
        name: Where it is: path inside the source, or file and row; shown in reports, always valid UTF-8.
        content: A file to be read, encoded bytes, pixels, or None if the source has nothing.
        label: Name of its class; None if the source has none.
        split: "test" if the source says so, else "pool".
        group: The person (patient, lesion, site) it belongs to; None if the source does not say.
    """

    name: str
    content: Path | bytes | np.ndarray | None
    label: str | None
    split: GivenSplit = "pool"
    group: str | None = None


@dataclass(frozen=True)
class RawTable:
    """A source opened but not read.

    Attributes:
        format: Name of the format, for the report.
        images: The images, read during iteration so that they are never all in memory; may be iterated again.
        count: Their number.
        class_names: Classes in the source's own order, if it gives one.
        left_out: What lies in the source but is no image of the set, in words, with counts.
        eight_bits: All images are known to be uint8 pixels, so that the first few tell their range.
    """

    format: str
    images: Iterable[RawImage]
    count: int
    class_names: tuple[str, ...] | None = None
    left_out: tuple[str, ...] = ()
    eight_bits: bool = False


class Again:
    """Make what a generator function yields iterable any number of times.

    >>> digits = Again(lambda: iter("12"))
    >>> list(digits), list(digits)
    (['1', '2'], ['1', '2'])
    """

    def __init__(self, images: Callable[[], Iterator[RawImage]]) -> None:
        self._images = images

    def __iter__(self) -> Iterator[RawImage]:
        """Start from the first image."""
        return self._images()


def in_batches(images: Iterable[RawImage]) -> Iterator[list[RawImage]]:
    """Yield images a few at a time, so few that their content is small even where every one is large.

    >>> [len(batch) for batch in in_batches([RawImage("x", bytes(10), "a")] * 100)]
    [64, 36]
    """
    batch: list[RawImage] = []
    size = 0
    for image in images:
        batch.append(image)
        size += getattr(image.content, "nbytes", 0)
        size += len(image.content) if isinstance(image.content, bytes) else 0
        if len(batch) == BATCH or size > BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def readable(name: str) -> str:
    r"""Return a file name as valid UTF-8: bytes of another encoding become escapes.

    >>> readable("caf\udce9.png")
    'caf\\xe9.png'
    """
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def image_column(columns: Sequence[str], wanted: str | None, source: str) -> str:
    """Return the name of the column of images or paths.

    Raises:
        UserError: There is none, or not the wanted one.

    >>> image_column(["ID", "Image", "label"], None, "cats.parquet")
    'Image'
    """
    found = find_column(columns, wanted, IMAGE_COLUMNS, "image_column", source)
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
    found = find_column(columns, wanted, LABEL_COLUMNS, "label_column", source)
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
    return find_column(columns, wanted, SPLIT_COLUMNS, "split_column", source)


def group_column(columns: Sequence[str], wanted: str | None, source: str) -> str | None:
    """Return the name of the column of groups; None if none is wanted.

    Raises:
        UserError: The wanted one does not exist.
    """
    return find_column(columns, wanted, (), "group_column", source)


def find_column(
    columns: Sequence[str], wanted: str | None, usual: Sequence[str], option: str, source: str
) -> str | None:
    """Return the wanted column, else the first with a usual name, else None.

    Raises:
        UserError: The wanted one does not exist, or there are several.
    """
    if wanted is not None:
        if wanted not in columns:
            raise UserError(
                f"{source} has no column {wanted!r} (columns: {', '.join(columns)}).",
                f"put one of them into ingestion.{option}.",
            )
        if list(columns).count(wanted) > 1:
            raise UserError(
                f"{source} has {list(columns).count(wanted)} columns called {wanted!r}.",
                "keep one of them, or give each a name of its own.",
            )
        return wanted
    by_lower: dict[str, list[str]] = {}
    for name in columns:
        by_lower.setdefault(name.strip().lower(), []).append(name)
    found = next((by_lower[name] for name in usual if name in by_lower), [])
    if len(found) > 1:
        raise UserError(
            f"{source} has {len(found)} columns called {' and '.join(map(repr, found))}.",
            f"keep one of them, or give each a name of its own and put it into ingestion.{option}.",
        )
    return found[0] if found else None
