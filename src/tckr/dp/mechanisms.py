"""The mechanisms: statistics of private images with noise, each charged to an entry of the ledger before it runs."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tckr.dp.ledger import Entry
from tckr.dp.noise import Noise
from tckr.dp.recorder import answer
from tckr.errors import UserError

if TYPE_CHECKING:
    import torch

__all__ = ["Noise", "add_noise", "check_counts", "noisy_counts", "noisy_histogram", "noisy_sum"]

# Images whose vectors are clipped and added at a time.
BLOCK = 1024


def add_noise(statistic: "torch.Tensor", entry: Entry, noise: Noise) -> "torch.Tensor":
    """Return a statistic with the Gaussian noise of its entry: one answer of the entry's steps.

    Args:
        statistic: any shape; the caller has bounded what one image adds to it to L2 norm `entry.sensitivity`.
        entry: as `Ledger.spend` returned it.
        noise: the source.

    Returns:
        As the statistic in shape, type and device.

    Raises:
        UserError: the entry was not spent.
        ValueError: it is not Gaussian.
    """
    _check(entry, "gaussian", "subsampled_gaussian")
    return answer(
        entry,
        statistic,
        lambda: (
            statistic
            + noise.normal(tuple(statistic.shape), entry.sigma, statistic.device, statistic.dtype)
        ),
    )


def noisy_sum(vectors: "torch.Tensor", entry: Entry, noise: Noise) -> "torch.Tensor":
    """Return the sum of the images' vectors, each clipped to L2 norm `entry.sensitivity`, with noise.

    A vector that is not finite counts as zero: NaN in the sum would tell that its image is there. Divide by a number
    that does not depend on the sample, such as the expected one, never by how many vectors came.

    Args:
        vectors: (N, ...), one an image; of a Poisson sample, so N may be 0.
        entry: as `Ledger.spend` returned it.
        noise: the source.

    Returns:
        (...), of the vectors' type and device; summed in double precision on the way.
    """
    return add_noise(clipped_sum(vectors, entry.sensitivity), entry, noise)


def clipped_sum(vectors: "torch.Tensor", norm: float) -> "torch.Tensor":
    """Return the sum of vectors (N, ...), each scaled down to L2 norm `norm` at most; it is not private.

    >>> import torch
    >>> clipped_sum(torch.tensor([[3.0, 4.0], [0.0, 0.5], [float("nan"), 1.0]]), 1.0)
    tensor([0.6000, 1.3000])
    """
    import torch

    if norm <= 0:
        raise ValueError(f"vectors are clipped to a positive norm, not {norm}")
    wide = torch.float32 if vectors.device.type == "mps" else torch.float64
    total = torch.zeros(vectors.shape[1:], dtype=wide, device=vectors.device)
    for block in vectors.split(BLOCK):
        flat = block.flatten(1).to(wide)
        flat = torch.where(flat.isfinite().all(1, keepdim=True), flat, torch.zeros_like(flat))
        norms = flat.norm(dim=1, keepdim=True)
        # A hair below the norm, so that rounding cannot lift a vector above it.
        flat = flat * ((1 - 1e-6) * norm / norms.clamp(min=1e-300)).clamp(max=1.0)
        assert bool((flat.norm(dim=1) <= norm).all()), "a clipped vector is longer than declared"
        total += flat.sum(0).reshape(total.shape)
    return total.to(vectors.dtype)


def noisy_counts(counts: ArrayLike, entry: Entry, noise: Noise) -> NDArray[np.int64]:
    """Return counts with exact discrete Gaussian noise; they may be negative.

    Args:
        counts: integers, of which one image changes `entry.cells` by 1 each; of class counts, one.
        entry: a discrete Gaussian, as `Ledger.spend` returned it.
        noise: the source.

    Raises:
        UserError: the entry was not spent.
        ValueError: counts that are not integers, or an entry that is not a discrete Gaussian.
    """
    _check(entry, "discrete_gaussian")
    whole = np.asarray(counts)
    if not np.issubdtype(whole.dtype, np.integer):
        raise ValueError(f"counts are integers, not {whole.dtype}")
    return answer(
        entry,
        whole,
        lambda: whole.astype(np.int64) + noise.discrete_gaussian(whole.shape, entry.sigma),
    )


def noisy_histogram(cells: ArrayLike, size: int, entry: Entry, noise: Noise) -> NDArray[np.int64]:
    """Return how many images name each of `size` cells, with exact discrete Gaussian noise.

    An image names k cells at most, so one image changes the histogram by sqrt(k) in L2 norm: the entry's sensitivity.

    Args:
        cells: int (N, k), cells of each image in 0 .. size - 1, or -1 for none; one named twice counts once.
        size: of the histogram.
        entry: a discrete Gaussian of sensitivity sqrt(k), as `Ledger.spend` returned it.
        noise: the source.

    Raises:
        UserError: the entry was not spent.
        ValueError: more cells an image than the entry declares, or cells out of range.
    """
    named = np.sort(np.asarray(cells, np.int64), axis=1)
    if named.shape[1] > entry.cells:
        raise ValueError(
            f"'{entry.name}' declares {entry.cells} cells an image, but images name {named.shape[1]}"
        )
    if named.size and (named.min() < -1 or named.max() >= size):
        raise ValueError(f"cells lie in 0 .. {size - 1}, or are -1")
    repeated = np.zeros(named.shape, bool)
    repeated[:, 1:] = named[:, 1:] == named[:, :-1]
    kept = named[(named >= 0) & ~repeated]
    return noisy_counts(np.bincount(kept, minlength=size), entry, noise)


def check_counts(noisy: NDArray[np.int64], entry: Entry, names: list[str]) -> None:
    """Check that noisy counts stand out of their noise; only the noisy ones are looked at, so this costs nothing.

    Args:
        noisy: (C,), of `noisy_counts`.
        entry: what they were charged to.
        names: of the C classes.

    Raises:
        UserError: a count lies within two standard deviations of zero.
    """
    for name, count in zip(names, noisy, strict=True):
        if count < 2 * entry.sigma:
            raise UserError(
                f"Class '{name}' has too few members for epsilon: its noisy count is {count}, the noise of a count"
                f" {entry.sigma:.3g}.",
                f"raise epsilon or the share of '{entry.name}', merge the class, or leave it out.",
            )


def _check(entry: Entry, *mechanisms: str) -> None:
    if entry.mechanism not in mechanisms:
        raise ValueError(f"'{entry.name}' is {entry.mechanism}, not {' or '.join(mechanisms)}")
    if entry.spent is None:
        raise UserError(
            f"'{entry.name}' would read private images before it is charged.",
            "call ledger.spend first and use the entry that it returns.",
        )
