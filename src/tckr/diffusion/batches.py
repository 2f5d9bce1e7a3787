"""How much of the work fits in memory at once."""

import math
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

from tckr.errors import UserError

Result = TypeVar("Result")

SHARE = 0.8  # of the free memory that a guessed batch may fill
PIXELS = (
    1 << 24
)  # that an autoencoder reads or writes at once: some 10 GB for that of Stable Diffusion


class BatchSize:
    """A number of images at once that halves whenever memory runs out, and stays there."""

    def __init__(self, size: int) -> None:
        self.size = size

    def over(self, rows: range, work: Callable[[range], Result]) -> Iterator[Result]:
        """Yield `work(part)` for successive parts of `rows`; a part that did not fit is begun again in halves.

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
    """How many images `work` can take at once on a GPU, judged by the memory that `probe` of them take."""
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    first = BatchSize(probe)
    for _ in first.over(range(probe), work):
        pass
    taken = max(1, torch.cuda.max_memory_allocated(device) - before) / first.size
    torch.cuda.empty_cache()
    return max(1, int(SHARE * torch.cuda.mem_get_info(device)[0] / taken))


def by_pixels(side: int, most: int) -> int:
    """How many images of this side an autoencoder is given at once, `most` at the most."""
    return max(1, min(most, PIXELS // side**2))


def evenly(count: int, size: int) -> int:
    """The size of equal batches of at most `size`, so that the last one is not a remnant."""
    return math.ceil(count / math.ceil(count / size)) if count else size
