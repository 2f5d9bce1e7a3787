"""What every reader of raw images hands on."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

GivenSplit = Literal["pool", "test"]

TEST_NAMES = frozenset({"test", "testing", "t10k"})
POOL_NAMES = frozenset(
    {"train", "training", "val", "valid", "validation", "dev", "members", "holdout", "pool"}
)


@dataclass(frozen=True)
class RawImage:
    """One image as the source has it.

    Attributes:
        name: Where it is: path inside the source, or file and row. Shown in reports.
        content: A file still to be read, encoded bytes, pixels, or None where the source has nothing.
        label: Name of its class; None where the source has none.
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
        images: The images, read while iterated so that they never all lie in memory.
        count: Their number.
        class_names: Classes in the source's own order, where it gives one.
    """

    format: str
    images: Iterable[RawImage]
    count: int
    class_names: tuple[str, ...] | None = None


def given_split(value: Any) -> GivenSplit:
    """Reduce a source's word for a split to what matters here: its test stays test, the rest is the pool."""
    return "test" if str(value).strip().lower() in TEST_NAMES else "pool"
