"""Memory of the device: rows computed once and read at every step, and batches as large as fit.

Rows stay on the device while they fit into their budget and are memory-mapped from disk otherwise.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from tckr.engine.scratch import scratch as temporary
from tckr.errors import UserError

GIB = 1 << 30
FREE_SHARE = 0.8  # of the free memory that an estimated batch may fill
# Pixels that an autoencoder reads or writes at once: some 10 GB for that of Stable Diffusion.
AUTOENCODER_PIXELS = 1 << 24
Result = TypeVar("Result")


class Rows(Protocol):
    """Named tensors with one row per item."""

    def read(self, rows: Tensor) -> dict[str, Tensor]:
        """Return the rows (int64) in this order, on the device."""

    @property
    def size(self) -> int:
        """Bytes held on the device."""


@dataclass(frozen=True)
class RowsOnDevice:
    """All rows in the device's memory."""

    tensors: dict[str, Tensor]

    def read(self, rows: Tensor) -> dict[str, Tensor]:
        """Return the rows in this order."""
        return {name: tensor[rows.to(tensor.device)] for name, tensor in self.tensors.items()}

    @property
    def device(self) -> torch.device:
        """Device of the rows."""
        return next(iter(self.tensors.values())).device

    @property
    def size(self) -> int:
        """Bytes held on the device."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


@dataclass(frozen=True)
class RowsOnDisk:
    """Rows in one raw file per tensor, read through memory mapping.

    Attributes:
        files: path, dtype and shape of each tensor, by its name.
        device: where rows are moved when they are read.
        size: bytes held on the device, none.
    """

    files: dict[str, tuple[str, torch.dtype, tuple[int, ...]]]
    device: torch.device
    size: int = 0

    def read(self, rows: Tensor) -> dict[str, Tensor]:
        """Return the rows in this order, on the device."""
        return {name: self._move(_mapped(*file)[rows]) for name, file in self.files.items()}

    def _move(self, tensor: Tensor) -> Tensor:
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)


def cache_rows(
    parts: Iterable[Mapping[str, Tensor]], count: int, budget: float, folder: Path
) -> Rows:
    """Store rows that come in parts.

    Args:
        parts: named tensors of some rows each; all parts but the last have as many rows.
        count: rows in all.
        budget: bytes that may stay on the device; if all rows need more, all go to disk.
        folder: where the files go then; it is created if it is missing.

    >>> parts = [{"x": torch.tensor([0.0, 1.0])}, {"x": torch.tensor([2.0])}]
    >>> cache_rows(parts, 3, GIB, Path("unused")).read(torch.tensor([2, 0]))
    {'x': tensor([2., 0.])}
    """
    iterator = iter(parts)
    first = next(iterator)
    part_size = len(next(iter(first.values())))
    needed = sum(tensor[:1].nbytes for tensor in first.values()) * count
    whole = chain([first], iterator)
    if needed <= budget:
        held = {name: tensor.new_empty(count, *tensor.shape[1:]) for name, tensor in first.items()}
        for number, part in enumerate(whole):
            for name, tensor in part.items():
                held[name][number * part_size : number * part_size + len(tensor)] = tensor
        return RowsOnDevice(held)
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        name: (str(folder / name), tensor.dtype, (count, *tensor.shape[1:]))
        for name, tensor in first.items()
    }
    # Written as a stream, not into the mapping: a full disk is then an OSError, not a killed process.
    with ExitStack() as stack:
        opened = {n: stack.enter_context(open(path, "wb")) for n, (path, *_) in files.items()}
        for part in whole:
            for name, tensor in part.items():
                opened[name].write(tensor.cpu().contiguous().view(torch.uint8).numpy().data)
    return RowsOnDisk(files, next(iter(first.values())).device)


@contextmanager
def scratch(folder: Path | None = None) -> Iterator[Path]:
    """Create a folder for `RowsOnDisk` that is removed at the end of the block.

    Args:
        folder: where to create it; by default where the run keeps its temporary files.
    """
    with temporary("cache") if folder is None else _below(folder) as path:
        try:
            yield path
        finally:
            _mapped.cache_clear()  # an open mapping would keep the disk space of the files


@contextmanager
def _below(folder: Path) -> Iterator[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="tckr-cache-", dir=folder) as path:
        yield Path(path)


@lru_cache(maxsize=64)
def _mapped(file: str, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    # Shared, although it is only read: a private mapping would count against the machine's memory.
    return torch.from_file(file, shared=True, size=math.prod(shape), dtype=dtype).view(shape)


class Prefetcher(Generic[Result]):
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
            if done is None:
                # Here, not above: there the error still holds what the failed attempt had allocated.
                self.size = math.ceil(len(part) / 2)
                torch.cuda.empty_cache()
                continue
            rows = rows[len(part) :]
            yield done


def estimate_batch_size(
    work: Callable[[range], object], device: torch.device, probe: int = 8
) -> int:
    """Estimate how many images `work` can take at once on a GPU from the memory that `probe` of them take."""
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    first = BatchSize(probe)
    for _ in first.over(range(probe), work):
        pass
    taken = max(1, torch.cuda.max_memory_allocated(device) - before) / first.size
    torch.cuda.empty_cache()
    return max(1, int(FREE_SHARE * torch.cuda.mem_get_info(device)[0] / taken))


def autoencoder_batch_size(side: int, most: int) -> int:
    """Return how many images of this side, in pixels, to pass to an autoencoder at once, at most `most`.

    >>> autoencoder_batch_size(512, 256)
    64
    """
    return max(1, min(most, AUTOENCODER_PIXELS // side**2))


def evenly(count: int, size: int) -> int:
    """Return the size of equal batches of at most `size`, so that the last one is not a remnant.

    >>> evenly(10, 8)
    5
    """
    return math.ceil(count / math.ceil(count / size)) if count else size
