"""Scores whose ROC has a closed form."""

from collections.abc import Callable

import numpy as np
import pytest

Sample = Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]]


@pytest.fixture(scope="session")
def shifted() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """m members of N(mu, 1), then n non-members of N(0, 1), and who is which."""

    def sample(random: np.random.Generator, mu: float, m: int, n: int) -> tuple:
        scores = np.concatenate([random.normal(mu, 1, m), random.normal(0, 1, n)])
        return scores, np.arange(m + n) < m

    return sample


@pytest.fixture(scope="session")
def clustered() -> Sample:
    """As `shifted`, but each of `n_clusters` examples has `size` scores, half of them as a member.

    Any score on its own is N(mu, 1) or N(0, 1); half of its variance is the example's own.
    """

    def sample(random: np.random.Generator, mu: float, n_clusters: int, size: int) -> tuple:
        clusters = np.repeat(np.arange(n_clusters), size)
        flags = np.tile(np.arange(size) < size // 2, n_clusters)
        common = random.normal(size=n_clusters)[clusters]
        scores = mu * flags + (common + random.normal(size=len(flags))) / np.sqrt(2)
        return scores, flags, clusters

    return sample
