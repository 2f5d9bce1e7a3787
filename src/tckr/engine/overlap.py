"""Work that overlaps with a GPU's: threads that prepare what comes next, copies that arrive while it goes on."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import torch
from torch import Tensor

In = TypeVar("In")
Out = TypeVar("Out")


def ahead(function: Callable[[In], Out], items: Iterable[In]) -> Iterator[Out]:
    """`function` of every item, in order, computed by worker threads a few items before they are asked for."""
    workers = min(2, os.cpu_count() or 1)  # more would only make the first item wait
    coming = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Out]] = deque(
            pool.submit(function, item) for item in islice(coming, workers + 1)
        )
        try:
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(function, item) for item in islice(coming, 1))
                yield result
        finally:
            for future in waiting:
                future.cancel()


def behind(items: Iterable[In]) -> Iterator[In]:
    """The same items, each once the next has been asked for: work begun on a GPU goes on while the last is read.

    Where the next fails, the last one comes first.
    """
    held: deque[In] = deque()
    try:
        for item in items:
            held.append(item)
            if len(held) > 1:
                yield held.popleft()
    except Exception:
        yield from held
        raise
    yield from held


def to_host(tensor: Tensor) -> Callable[[], Tensor]:
    """Begin to copy a tensor to the CPU; the call of the result waits for that alone, not for work begun later."""
    if tensor.device.type != "cuda":
        return lambda: tensor
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    copy.copy_(tensor, non_blocking=True)
    done = torch.cuda.Event()
    done.record()

    def wait() -> Tensor:
        done.synchronize()
        return copy

    return wait
