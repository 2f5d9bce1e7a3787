"""What tests hand to worker processes: a worker imports this file alone, and not what the test beside it needs."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tckr.engine import map_shards
from tckr.engine.seeds import derive
from tckr.errors import Paused, UserError

if TYPE_CHECKING:
    import torch


def scaled(shard: int, shared: dict[str, Any]) -> tuple[int, float, int]:
    import torch

    time.sleep(0.05 * (3 - shard))  # later shards end first
    return shard, float(shard * shared["rows"].sum()), torch.get_num_threads()


def noise(shard: int) -> "torch.Tensor":
    import torch

    return torch.randn(4, generator=torch.Generator().manual_seed(derive(7, "noise", shard)))


def picky(shard: str) -> str:
    if shard == "bad one":
        raise ValueError("no good")
    return shard


class UnpicklableError(Exception):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


def raises_unpicklable(shard: int) -> int:
    raise UnpicklableError("this", "that")


def needs_more(shard: int) -> int:
    if shard == 1:
        raise UserError("photos.csv is empty.", "list one image per row.")
    return shard


def wraps(shard: int) -> list[int]:
    """Like a shard that maps shards of its own."""
    return map_shards(needs_more, [shard])


def pauses(shard: int) -> int:
    if shard == 1:
        raise Paused("painter", 3, 1000)
    return shard


def counted(shard: int, folder: Path) -> "torch.Tensor":
    """Leave a mark for each time that the shard is done."""
    import torch

    (folder / f"{shard}-{time.time_ns()}").touch()
    if shard == 3 and not (folder / "mended").exists():
        raise ValueError("not yet")
    return torch.full((2,), shard)


def waits_for_a_file(shard: int, folder: Path) -> int:
    """Return the shard; the last one only once the first has been handed on."""
    deadline = time.monotonic() + 120
    while shard == 2 and not (folder / "first").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return shard if (folder / "first").exists() or shard < 2 else -1
