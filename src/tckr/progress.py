"""Progress bars that stay quiet when nobody is watching."""

import os
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield from `items` behind a bar named `description`; no bar when standard error is not a terminal.

    Set `TCKR_PROGRESS=1` (or `0`) to force the bar on (or off).
    """
    wanted = os.environ.get("TCKR_PROGRESS", "1" if sys.stderr.isatty() else "0") == "1"
    yield from tqdm(
        items, desc=description, total=total, disable=not wanted, leave=True, dynamic_ncols=True
    )
