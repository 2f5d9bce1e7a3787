"""Overlap CPU work with a GPU's: prepare the next items in threads, copy results while the GPU computes."""

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
    """Yield `function` of every item, in order, computed by worker threads a few items ahead of the consumer.

    >>> list(ahead(str.upper, ["a", "b", "c"]))
    ['A', 'B', 'C']
    """
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
    """Yield the same items, each only after the next has been started, so that a GPU works while the last is read.

    If the next item fails, the last one is yielded before the error is raised.

    >>> list(behind([1, 2, 3]))
    [1, 2, 3]
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
    """Start copying a tensor to the CPU and return a function that waits for the copy, not for work started later."""
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
