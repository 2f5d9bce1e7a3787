"""Where noise comes from: the operating system's entropy, or a seed in tests, which is marked as not private."""

import math
import os
import random
from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

# Normal numbers made at a time: 32 MB of random bytes.
BLOCK = 1 << 20


class Noise:
    """A source of noise.

    Without a seed every call reads fresh bytes from the operating system's generator (`os.urandom`, ChaCha20 on
    Linux), so nobody can compute the noise again: not from the run's seed, nor from other noise. With a seed the same
    code runs on Philox bits, for tests: `private` is False, and a ledger that it touched cannot be released.

    Args:
        seed: of the test mode; None in earnest.

    >>> Noise().private, Noise(seed=0).private
    (True, False)
    >>> Noise(seed=0).discrete_gaussian((4,), sigma=3.0).dtype
    dtype('int64')
    """

    def __init__(self, seed: int | None = None) -> None:
        self.private = seed is None
        self._philox = None if seed is None else np.random.Philox(seed)
        self._integers = None if seed is None else random.Random(seed)

    def normal(
        self,
        shape: tuple[int, ...],
        scale: float,
        device: "str | torch.device" = "cpu",
        dtype: "torch.dtype | None" = None,
    ) -> "torch.Tensor":
        """Return Gaussian noise of standard deviation `scale`.

        Four normal numbers in double precision are added and halved: which doubles can come out of one such number
        gives it away (Mironov, CCS 2012); of the sum of four nobody can compute it (Holohan and Braghin, ESORICS 2021).

        Args:
            shape: of the result.
            scale: >= 0.
            device: of the result; the noise itself is made on the CPU.
            dtype: of the result; double precision unless given, where the device has it. Noise coarser than the
                numbers it is added to would leave their last digits bare.
        """
        import torch

        if not (scale >= 0 and math.isfinite(scale)):
            raise ValueError(
                f"the scale of noise must be a finite number of at least 0, not {scale}"
            )
        count = math.prod(shape)
        values = np.empty(count)
        for start in range(0, count, BLOCK):
            stop = min(start + BLOCK, count)
            values[start:stop] = self._normal(stop - start)
        noise = torch.from_numpy(scale * values).reshape(shape)
        default = torch.float32 if torch.device(device).type == "mps" else torch.float64
        return noise.to(device=device, dtype=dtype or default)

    def discrete_gaussian(self, shape: tuple[int, ...], sigma: float) -> NDArray[np.int64]:
        """Return exact discrete Gaussian noise: P[x] proportional to exp(-x^2 / (2 sigma^2)) on the integers.

        No floating point: the sampler of Canonne, Kamath and Steinke (arXiv 2004.00010) in integers and fractions.
        10,000 numbers take a second.

        Args:
            shape: of the result.
            sigma: >= 0, taken as the fraction that the float is.
        """
        if not (sigma >= 0 and math.isfinite(sigma)):
            raise ValueError(f"sigma must be a finite number of at least 0, not {sigma}")
        if sigma == 0:
            return np.zeros(shape, np.int64)
        below, variance = self._below(), Fraction(sigma) ** 2
        draws = [_discrete_gaussian(variance, below) for _ in range(math.prod(shape))]
        return np.array(draws, np.int64).reshape(shape)

    def poisson_sample(self, n: int, rate: float) -> NDArray[np.bool_]:
        """Return which of `n` images enter a sample: each with probability `rate`, independently of the others.

        >>> Noise(seed=0).poisson_sample(10_000, 0.25).mean().round(2)
        np.float64(0.25)
        """
        if not 0 <= rate <= 1:
            raise ValueError(f"a sampling rate lies in [0, 1], not {rate}")
        if rate == 1:
            return np.ones(n, bool)
        # Exact for rates of at least 2^-11; smaller ones are rounded down by at most 2^-64, to less sampling.
        return self._bits(n) < np.uint64(int(Fraction(rate) * 2**64))

    def seed(self) -> int:
        """Return a seed for what a mechanism draws for each image, such as noise levels and views.

        It must be as secret as the noise: images draw in turn from one stream, so that to whoever knows the seed an image
        more moves the draws, and with them the gradients, of all others.
        """
        return int(self._bits(1)[0] >> np.uint64(1))

    def _normal(self, count: int) -> NDArray[np.float64]:
        """Return standard normal numbers, each half the sum of four of Box and Muller."""
        bits = (self._bits(4 * count) >> np.uint64(11)).astype(np.float64)
        radius, angle = bits.reshape(2, 2, count)
        radius = np.sqrt(-2 * np.log((radius + 1) * 2.0**-53))
        angle = angle * (2 * math.pi * 2.0**-53)
        return np.asarray((radius * (np.cos(angle) + np.sin(angle))).sum(0) / 2)

    def _bits(self, count: int) -> NDArray[np.uint64]:
        if self._philox is None:
            return np.frombuffer(os.urandom(8 * count), np.uint64)
        return np.asarray(self._philox.random_raw(count), np.uint64)

    def _below(self) -> Callable[[int], int]:
        """Return the function n -> uniform integer in 0 .. n - 1, exact for integers of any size."""
        return (self._integers or random.SystemRandom()).randrange

    def __repr__(self) -> str:
        return "Noise()" if self.private else "Noise(seed=...), not private"


def _discrete_gaussian(variance: Fraction, below: Callable[[int], int]) -> int:
    """Canonne, Kamath and Steinke, algorithm 3: reject from a discrete Laplace of scale floor(sigma) + 1."""
    scale = math.isqrt(math.floor(variance)) + 1
    while True:
        y = _discrete_laplace(scale, below)
        exponent = (abs(y) - variance / scale) ** 2 / (2 * variance)
        if _bernoulli_exp(exponent.numerator, exponent.denominator, below):
            return y


def _discrete_laplace(scale: int, below: Callable[[int], int]) -> int:
    """Algorithm 2, for an integer scale t: P[x] proportional to exp(-|x| / t)."""
    while True:
        u = below(scale)
        if not _bernoulli_exp(u, scale, below):
            continue
        v = 0
        while _bernoulli_exp(1, 1, below):
            v += 1
        x, negative = u + scale * v, below(2) == 1
        if not (negative and x == 0):
            return -x if negative else x


def _bernoulli_exp(numerator: int, denominator: int, below: Callable[[int], int]) -> bool:
    """Algorithm 1: return True with probability exp(-numerator / denominator)."""
    while numerator > denominator:
        if not _bernoulli_exp(1, 1, below):
            return False
        numerator -= denominator
    k = 1
    while below(denominator * k) < numerator:
        k += 1
    return k % 2 == 1
