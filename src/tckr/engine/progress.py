"""Progress bars that stay quiet when nobody is watching."""

import os
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def track(
    items: Iterable[T], description: str, total: int | None = None, done: int = 0
) -> Iterator[T]:
    """Yield from `items` behind a bar named `description`; no bar when standard error is not a terminal.

    Args:
        total: where the bar ends; by default after the last of `items`.
        done: where the bar begins, for work that goes on from an earlier run.

    Set `TCKR_PROGRESS=1` (or `0`) to force the bar on (or off).
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
