"""Rows that are computed once and read at every step: on the device while they fit, else in shards on disk."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Generic, Protocol, TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from tckr.errors import UserError

GIB = 1 << 30
Result = TypeVar("Result")


class Rows(Protocol):
    """Named tensors with one row per item."""

    def read(self, rows: Tensor) -> dict[str, Tensor]:
        """The rows (int64) in this order, on the device."""

    @property
    def size(self) -> int:
        """Bytes held on the device."""


@dataclass(frozen=True)
class Held:
    """All rows on the device."""

    tensors: dict[str, Tensor]

    def read(self, rows: Tensor) -> dict[str, Tensor]:
        """The rows in this order."""
        return {name: tensor[rows.to(tensor.device)] for name, tensor in self.tensors.items()}

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return next(iter(self.tensors.values())).device

    @property
    def size(self) -> int:
        """Bytes held on the device."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


@dataclass(frozen=True)
class Shards:
    """Rows in safetensors files of `rows_each`, read through memory mapping."""

    files: tuple[str, ...]
    rows_each: int
    device: torch.device
    size: int = 0

    def read(self, rows: Tensor) -> dict[str, Tensor]:
        """The rows in this order."""
        found = [divmod(row, self.rows_each) for row in rows.tolist()]
        names = _open(self.files[0]).keys()
        return {
            name: self._moved(
                torch.cat([_open(self.files[file]).get_slice(name)[at : at + 1] for file, at in found])
            )
            for name in names
        }  # fmt: skip

    def _moved(self, tensor: Tensor) -> Tensor:
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)


@lru_cache(maxsize=4096)
def _open(file: str) -> Any:
    return safe_open(file, "pt")


@contextmanager
def scratch(folder: Path | None = None) -> Iterator[Path]:
    """A folder for shards, gone at the end of the block; inside `folder`, by default the system's for such files."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="tckr-cache-", dir=folder) as path:
        try:
            yield Path(path)
        finally:
            _open.cache_clear()  # an open mapping would keep the space of the files


def keep(
    parts: Iterable[Mapping[str, Tensor]],
    count: int,
    budget: float,
    folder: Path,
) -> Rows:
    """Keep rows that come in parts.

    Args:
        parts: named tensors of some rows each; all parts but the last have as many rows.
        count: rows in all.
        budget: bytes that may stay on the device; if all rows need more, all go to disk.
        folder: where the files go then; it is made if it is missing.
    """
    iterator = iter(parts)
    first = next(iterator)
    rows_each = len(next(iter(first.values())))
    needed = sum(tensor[:1].nbytes for tensor in first.values()) * count
    whole = chain([first], iterator)
    if needed <= budget:
        held = {name: tensor.new_empty(count, *tensor.shape[1:]) for name, tensor in first.items()}
        for number, part in enumerate(whole):
            for name, tensor in part.items():
                held[name][number * rows_each : number * rows_each + len(tensor)] = tensor
        return Held(held)
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, part in enumerate(whole):
        files.append(str(folder / f"{number:05}.safetensors"))
        save_file({name: tensor.cpu().contiguous() for name, tensor in part.items()}, files[-1])
    return Shards(tuple(files), rows_each, next(iter(first.values())).device)


class Ahead(Generic[Result]):
    """Reads what the next step needs on a thread while this step computes."""

    def __init__(self, read: Callable[[int], Result], steps: int) -> None:
        self._read = read
        self._steps = steps
        self._pool = ThreadPoolExecutor(1)
        self._next: tuple[int, Future[Result]] | None = None

    def __call__(self, index: int) -> Result:
        """Return `read(index)` and start reading the next."""
        if self._next and self._next[0] == index:
            result = self._next[1].result()
        else:
            result = self._read(index)
        following = index + 1
        self._next = (
            (following, self._pool.submit(self._read, following))
            if following < self._steps
            else None
        )
        return result

    def close(self) -> None:
        """Stop the thread."""
        self._pool.shutdown(cancel_futures=True)


SHARE = 0.8  # of the free memory that a guessed batch may fill
PIXELS = (
    1 << 24
)  # that an autoencoder reads or writes at once: some 10 GB for that of Stable Diffusion


class BatchSize:
    """A number of images at once that halves whenever memory runs out, and stays there."""

    def __init__(self, size: int) -> None:
        self.size = size

    def over(self, rows: range, work: Callable[[range], Result]) -> Iterator[Result]:
        """Yield `work(part)` for successive parts of `rows`; a part that did not fit is retried in halves.

        Raises:
            UserError: a single image does not fit.
        """
        while rows:
            part = rows[: self.size]
            try:
                done = work(part)
            except torch.OutOfMemoryError as error:
                if len(part) == 1:
                    raise UserError(
                        "The device has not enough memory for a single image.",
                        "choose a lower resolution or a smaller generator, or free the device.",
                    ) from error
                done = None
            if (
                done is None
            ):  # here, not above: the error still holds what the failed try had allocated
                self.size = math.ceil(len(part) / 2)
                torch.cuda.empty_cache()
                continue
            rows = rows[len(part) :]
            yield done


def guess(work: Callable[[range], object], device: torch.device, probe: int = 8) -> int:
    """Estimate how many images `work` can take at once on a GPU from the memory that `probe` of them take."""
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    first = BatchSize(probe)
    for _ in first.over(range(probe), work):
        pass
    taken = max(1, torch.cuda.max_memory_allocated(device) - before) / first.size
    torch.cuda.empty_cache()
    return max(1, int(SHARE * torch.cuda.mem_get_info(device)[0] / taken))


def by_pixels(side: int, most: int) -> int:
    """Return how many images of this side, in pixels, to pass to an autoencoder at once, at most `most`."""
    return max(1, min(most, PIXELS // side**2))


def evenly(count: int, size: int) -> int:
    """Return the size of equal batches of at most `size`, so that the last one is not a remnant.

    >>> evenly(10, 8)
    5
    """
    return math.ceil(count / math.ceil(count / size)) if count else size
