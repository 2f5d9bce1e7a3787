"""Progress bars that are silent when nobody is watching."""

import os
import sys
from collections.abc import Generator, Iterable
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def track(
    items: Iterable[T], description: str, total: int | None = None, done: int = 0
) -> Generator[T, None, None]:
    """Yield from `items` and show a bar named `description`, unless standard error is not a terminal.

    Args:
        total: number of items at the end of the bar; by default that of `items`.
        done: number at the start of the bar, for work that resumes an earlier run.

    Set `TCKR_PROGRESS=1` (or `0`) to force the bar on (or off).

    >>> list(track([1, 2], "images"))
    [1, 2]
    """
    wanted = os.environ.get("TCKR_PROGRESS", "1" if sys.stderr.isatty() else "0") == "1"
    yield from tqdm(
        items,
        desc=description,
        total=total,
        initial=done,
        disable=not wanted,
        leave=True,
        dynamic_ncols=True,
    )
