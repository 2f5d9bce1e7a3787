"""A lower bound of epsilon from the two error rates of an attack."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta

from tckr.errors import UserError
from tckr.membership.statistics.estimate import Estimate
from tckr.membership.statistics.sides import split

# Thresholds tried from either end; more find no better bound and take longer.
CUTS = 500


def epsilon_lower_bound(
    scores: ArrayLike,
    is_member: ArrayLike,
    delta: float,
    confidence: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """A lower bound of epsilon for which (epsilon, delta) differential privacy can hold.

    Every test of an (epsilon, delta)-DP mechanism has TPR <= e^epsilon FPR + delta, and TNR <=
    e^epsilon FNR + delta (Kairouz et al., ICML 2015, theorem 2.1). A random half of the examples
    chooses threshold and direction; on the other half the two rates are bounded by one-sided
    Clopper-Pearson, each at half the error (union bound). So the bound holds at the stated
    confidence whatever the scores, for examples that are independent of one another; the scores of
    one single training run are so only approximately (Steinke et al., arXiv 2305.08846).

    Args:
        delta: of the guarantee, in [0, 1).
        confidence: of the bound, one-sided.
        seed: of the split.

    Returns:
        `value` = `low` = the bound, `high` infinite.

    Raises:
        UserError: NaN scores, or fewer than 2 members or non-members.
        ValueError: `delta` outside [0, 1).
    """
    if not 0 <= delta < 1:
        raise ValueError(f"delta must lie in [0, 1), not {delta}")
    sides = split(scores, is_member)
    if min(map(len, sides)) < 2:
        raise UserError("An epsilon bound needs 2 members and 2 non-members.", "add examples.")
    random = np.random.default_rng(seed)
    inside, outside = (random.permutation(side) for side in sides)
    choose = inside[: len(inside) // 2], outside[: len(outside) // 2]
    test = inside[len(inside) // 2 :], outside[len(outside) // 2 :]
    cuts = _spread(np.unique(np.concatenate(choose)))

    def bounds(
        pair: tuple[NDArray[np.float64], ...], at: NDArray[np.float64], flip: bool
    ) -> NDArray[np.float64]:
        counts = _exceeding(pair[::-1] if flip else pair, at, flip)
        return _epsilon(*counts, delta=delta, confidence=confidence)

    above, below = bounds(choose, cuts, False), bounds(choose, cuts, True)
    flip = bool(below.max() > above.max())
    best = cuts[[int(np.argmax(below if flip else above))]]
    bound = float(bounds(test, best, flip)[0])
    method = "threshold from one half, Clopper-Pearson on the other (Kairouz et al. 2015)"
    return Estimate(bound, bound, math.inf, confidence, method)


def _spread(cuts: NDArray[np.float64]) -> NDArray[np.float64]:
    """At most 2 x CUTS of them, densest at either end, where the bounds change fastest."""
    ranks = np.unique(np.geomspace(1, len(cuts), min(CUTS, len(cuts))).astype(int)) - 1
    return cuts[np.union1d(ranks, len(cuts) - 1 - ranks)]


def _exceeding(
    pair: tuple[NDArray[np.float64], ...], cuts: NDArray[np.float64], flip: bool
) -> tuple[NDArray[np.int64], int, NDArray[np.int64], int]:
    """Counts of (first, second) beyond each cut: at or above it, or below it if `flip`."""
    first, second = (np.searchsorted(np.sort(side), cuts, "left") for side in pair)
    m, n = len(pair[0]), len(pair[1])
    return (first, m, second, n) if flip else (m - first, m, n - second, n)


def _epsilon(
    hits: NDArray[np.int64],
    m: int,
    false: NDArray[np.int64],
    n: int,
    *,
    delta: float,
    confidence: float,
) -> NDArray[np.float64]:
    """ln((low of hits/m - delta) / high of false/n), at least 0, for each pair of counts."""
    error = (1 - confidence) / 2
    low = np.where(hits > 0, beta.ppf(error, np.maximum(hits, 1), m - hits + 1), 0.0)
    high = np.where(false < n, beta.ppf(1 - error, false + 1, np.maximum(n - false, 1)), 1.0)
    with np.errstate(divide="ignore"):
        return np.maximum(np.log(np.maximum(low - delta, 0) / high), 0.0)
