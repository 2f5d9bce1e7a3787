"""Draw from several generators in turn: the same arm fitted more than once (MultiGAN of GaFi, before arXiv 2407.15526)."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tckr.engine.seeds import derive
from tckr.options import Options

if TYPE_CHECKING:
    from torch import Tensor

SOURCE = "source"  # column of a mixed set: which generator drew an image, 0 for the arm's own
BATCH = 256  # images that are handed on at once


class MixedOptions(Options):
    """A further generator of the same arm."""

    seed: int = Field(
        ge=0,
        description="tells it from the others; it is fitted and drawn from with a seed of its own",
    )
    weight: float = Field(
        1.0, gt=0, le=1000, description="images for each one that the arm's own generator draws"
    )

    def seed_of(self, seed: int) -> int:
        """Return the seed that takes the place of the run's."""
        return derive(seed, "mixture", self.seed)


def turns(weights: Sequence[float], count: int) -> NDArray[np.int64]:
    """Return which generator draws each of the images 0, 1, ...: in every prefix as their weights ask, as nearly as can be.

    Args:
        weights: of the generators.
        count: images.

    >>> turns([1, 1], 6).tolist(), turns([2, 1], 6).tolist()
    ([0, 1, 0, 1, 0, 1], [0, 1, 0, 0, 1, 0])
    """
    due, total = np.zeros(len(weights)), float(sum(weights))
    drawn = np.empty(count, dtype=np.int64)
    for number in range(count):
        due += weights
        drawn[number] = due.argmax()
        due[drawn[number]] -= total
    return drawn


def interleaved(
    sources: Sequence["Iterable[Tensor]"], turn: NDArray[np.int64]
) -> "Iterator[Tensor]":
    """Yield the next image of whichever source has its turn, in batches, uint8 (B, C, H, W).

    >>> import torch
    >>> (batch,) = interleaved([[torch.zeros(2, 1)], [torch.ones(1, 1), torch.ones(1, 1)]], np.array([1, 0, 0, 1]))
    >>> batch.flatten().tolist()
    [1.0, 0.0, 0.0, 1.0]
    """
    import torch

    images = [(image for batch in source for image in batch) for source in sources]
    for start in range(0, len(turn), BATCH):
        yield torch.stack([next(images[which]) for which in turn[start : start + BATCH]])
