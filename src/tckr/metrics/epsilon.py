"""A lower bound of epsilon from the two error rates of an attack."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc
from scipy.stats import beta

from tckr.errors import UserError
from tckr.metrics.estimate import Estimate, checked, split

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


def epsilon_one_run(
    n_guesses: int, n_right: int, delta: float, n_canaries: int, confidence: float = 0.95
) -> Estimate:
    """The largest epsilon that so many right guesses rule out (NeurIPS 2023, arXiv 2305.08846).

    Each of `n_canaries` was in the training set by a fair coin of its own, and membership of
    `n_guesses` of them was guessed, the rest abstained from. Against any (epsilon, delta)-DP
    training the right guesses exceed v with at most the probability that a Binomial(n_guesses,
    e^epsilon / (1 + e^epsilon)) does, plus the correction for delta (theorem 5.2, corollary 5.4).

    Args:
        n_guesses: r, fixed before the scores are seen.
        n_right: v, of the guesses.
        delta: of the guarantee, in [0, 1).
        n_canaries: m, all of them, guessed or not.
        confidence: of the bound, one-sided.

    Returns:
        `value` = `low` = the bound, `high` infinite. With all of 100 guesses right no more than
        3.49 can be shown at 95 %, with 1,000 no more than 5.81.

    Raises:
        ValueError: not 0 <= v <= r <= m, or `delta` outside [0, 1).
    """
    if not 0 <= n_right <= n_guesses <= n_canaries:
        raise ValueError(f"{n_right} right of {n_guesses} guesses on {n_canaries} is not possible")
    if not 0 <= delta < 1:
        raise ValueError(f"delta must lie in [0, 1), not {delta}")

    def rejected(epsilon: float) -> bool:
        return _p_value(n_guesses, n_right, epsilon, delta, n_canaries) < 1 - confidence

    low, high = 0.0, 1.0
    while rejected(high):
        low, high = high, 2 * high
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if rejected(middle) else (low, middle)
    method = f"one run (Steinke et al. 2023), {n_right:,} of {n_guesses:,} guesses right"
    return Estimate(low, low, math.inf, confidence, method)


def one_run_bound(
    scores: ArrayLike,
    is_member: ArrayLike,
    n_guesses: int,
    delta: float,
    confidence: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """`epsilon_one_run` of the guess that the highest scores are members and the lowest are not.

    Half of the guesses go to either end (the odd one to the top). Equal scores are taken in a
    random order: in the order given, members first, ties would be guessed right by accident.

    Args:
        scores: (N,) of the canaries, larger = more likely a member.
        is_member: bool (N,), each drawn by a fair coin of its own.
        n_guesses: fixed before the scores are seen; at most N.
        delta: of the guarantee, in [0, 1).
        confidence: of the bound, one-sided.
        seed: of the order of equal scores.

    Raises:
        UserError: NaN scores, or members or non-members missing.
        ValueError: more guesses than canaries, or `delta` outside [0, 1).
    """
    values, inside = checked(scores, is_member)
    if not 0 < n_guesses <= len(values):
        raise ValueError(f"{n_guesses} guesses cannot be made on {len(values)} canaries")
    mixed = np.random.default_rng(seed).permutation(len(values))
    order = mixed[np.argsort(values[mixed], kind="stable")]
    bottom = n_guesses // 2
    top = n_guesses - bottom
    n_right = int((~inside[order[:bottom]]).sum() + inside[order[-top:]].sum())
    return epsilon_one_run(n_guesses, n_right, delta, len(values), confidence)


def _p_value(r: int, v: int, epsilon: float, delta: float, m: int) -> float:
    """P[v or more right] + 2 m delta max_i P[v > right >= v - i] / i, under (epsilon, delta)."""
    if v == 0:
        return 1.0
    q = 1 / (1 + math.exp(-epsilon))
    p = float(betainc(v, r - v + 1, q))  # P[Binomial(r, q) >= v]
    if delta > 0:
        i = np.arange(1, v + 1)
        at_least = np.append(betainc(v - i[:-1], r - v + i[:-1] + 1, q), 1.0)
        p += 2 * m * delta * float(((at_least - p) / i).max())
    return min(p, 1.0)
