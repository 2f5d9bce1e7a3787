"""Where a captured training step finds the images of its batch: all of them on the device, or the batch alone.

A set whose raw pixels fit in a share of the free memory of the GPU stays there, in one copy. Of a larger one, which may
itself be memory-mapped from a file, only the next few batches are there: a thread reads them while the step computes.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import torch
from torch import Tensor

# Share of a GPU's free memory that the raw pixels of a set may take; networks, activations and other sets need the rest.
RESIDENT_SHARE = 0.5
AHEAD = 3  # batches on their way to the device, beside the one that is computed


class Feed(Protocol):
    """The images that steps read, always in the same tensors, because a captured step reads them by address.

    Attributes:
        images: uint8, on the device of the step.
    """

    images: Tensor

    def rows(self, index: Tensor) -> Tensor:
        """Return where in `images` the batch of the images `index`, int64 (B,), lies; both on the device."""

    def start(self, order: Tensor) -> None:
        """Begin with the batches of `order`, int64 (steps, B) on the CPU."""

    def next(self) -> None:
        """Bring the next batch to `images`, on the stream that is current."""

    def close(self) -> None:
        """Stop whatever was begun."""


class Resident:
    """All images in the memory of the device."""

    def __init__(self, images: Tensor) -> None:
        """Read uint8 (N, C, H, W), which are there already."""
        self.images = images

    def rows(self, index: Tensor) -> Tensor:
        """Return `index` itself."""
        return index

    def start(self, order: Tensor) -> None:
        """Begin; there is nothing to prepare."""

    def next(self) -> None:
        """Go on; everything is there."""

    def close(self) -> None:
        """Stop; nothing was begun."""


class Streamed:
    """The images of the current batch in the memory of the device, and the next ones on their way.

    A thread gathers the images of a batch in page-locked memory and copies them to the device on a stream of its own.
    So reading, copying and computing overlap, and the step waits for none of them as long as it is the slowest.
    """

    def __init__(self, source: Callable[[], Tensor], batch_size: int, device: torch.device) -> None:
        """Allocate the buffers; nothing is read before `start`.

        Args:
            source: gives the images uint8 (N, C, H, W) on the CPU; asked at each start, as they may be replaced.
            batch_size: B.
            device: of the step. A CPU reads in the same way, though it would not need to.
        """
        self._source, self._device = source, device
        shape = (batch_size, *source().shape[1:])
        self._on_gpu = device.type == "cuda"
        self.images = torch.zeros(shape, dtype=torch.uint8, device=device)
        self._rows = torch.arange(batch_size, device=device)
        self._buffers = [_Buffer(shape, device) for _ in range(AHEAD)]
        self._stream: Any = torch.cuda.Stream(device) if self._on_gpu else None
        self._pool: ThreadPoolExecutor | None = None
        self._coming: deque[Future[_Buffer]] = deque()

    def rows(self, index: Tensor) -> Tensor:
        """Return 0, 1, ..., B - 1: only the batch is there."""
        return self._rows

    def start(self, order: Tensor) -> None:
        """Begin to read the batches of `order`, int64 (steps, B) on the CPU."""
        self.close()
        self._pool = ThreadPoolExecutor(1, "training-images")
        if (
            self._on_gpu
        ):  # the buffers' memory may have been another tensor's, which is still computed with
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
        self._images, self._order, self._next = self._source(), order, 0
        for _ in range(AHEAD):
            self._request()

    def next(self) -> None:
        """Bring the next batch to `images`, on the stream that is current, and request one more."""
        buffer = self._coming.popleft().result()
        buffer.copy_to(self.images)
        self._request()

    def close(self) -> None:
        """Stop the thread, and wait for what it has begun."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
        self._coming.clear()
        if self._on_gpu:
            self._stream.synchronize()

    def _request(self) -> None:
        """Ask the thread for the next batch, in the buffer whose last one has been handed over."""
        if self._pool is None or self._next == len(self._order):
            return
        index, buffer = self._order[self._next], self._buffers[self._next % AHEAD]
        self._coming.append(self._pool.submit(buffer.fill, self._images, index, self._stream))
        self._next += 1


class _Buffer:
    """One batch on its way: in page-locked memory, then on the device."""

    def __init__(self, shape: tuple[int, ...], device: torch.device) -> None:
        self._device = device
        self._on_gpu = device.type == "cuda"
        self._host = torch.empty(shape, dtype=torch.uint8, pin_memory=self._on_gpu)
        self._there = torch.empty_like(self._host, device=device) if self._on_gpu else self._host
        if self._on_gpu:
            self._copied, self._read = torch.cuda.Event(), torch.cuda.Event()

    def fill(self, images: Tensor, index: Tensor, stream: Any) -> "_Buffer":
        """Gather the images at `index` and begin their copy to the device on `stream`."""
        if not self._on_gpu:
            torch.index_select(images, 0, index, out=self._host)
            return self
        with torch.cuda.device(self._device), torch.cuda.stream(stream):
            self._copied.synchronize()  # the last batch has left the page-locked memory
            torch.index_select(images, 0, index, out=self._host)
            stream.wait_event(self._read)  # and the step has taken it off the device's part
            self._there.copy_(self._host, non_blocking=True)
            self._copied.record(stream)
        return self

    def copy_to(self, images: Tensor) -> None:
        """Copy the batch to `images`, on the stream that is current."""
        if not self._on_gpu:
            images.copy_(self._host)
            return
        stream = torch.cuda.current_stream(self._device)
        stream.wait_event(self._copied)
        images.copy_(self._there)
        self._read.record(stream)


def fits(size: int, device: torch.device) -> bool:
    """Return whether `size` bytes of raw pixels may stay on the device: always on a CPU, where they are already."""
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    # What torch has reserved and does not use is free too.
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return size <= RESIDENT_SHARE * free
