"""Lower bounds of the epsilon of differential privacy: from an attack's error rates, or from one run with canaries."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc
from scipy.stats import beta

from tckr.errors import UserError
from tckr.metrics.estimate import Estimate, check_scores, split

# Thresholds tried from either end; more find no better bound and take longer.
CUTS = 500


def epsilon_lower_bound(
    scores: ArrayLike,
    is_member: ArrayLike,
    delta: float,
    confidence: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Bound epsilon from below: no (epsilon, delta) differential privacy with a smaller one can hold.

    A random half of the examples chooses threshold and direction of the test; on the other half its
    two error rates are bounded by one-sided Clopper-Pearson, each at half the error (union bound).
    So the bound holds at the stated confidence whatever the scores, for examples that are
    independent of one another; the scores of a single training run are so only approximately
    (Steinke et al., arXiv 2305.08846).

    Args:
        scores: (N,), larger = more likely a member.
        is_member: bool (N,).
        delta: of the guarantee, in [0, 1).
        confidence: of the bound, one-sided.
        seed: of the split.

    Returns:
        `value` = `low` = the bound, `high` infinite.

    Raises:
        UserError: NaN scores, or fewer than 2 members or non-members.
        ValueError: `delta` outside [0, 1).

    >>> random, is_member = np.random.default_rng(0), np.arange(2000) < 1000
    >>> scores = random.normal(size=2000) + 2 * is_member
    >>> bound = epsilon_lower_bound(scores, is_member, delta=1e-5)
    >>> 1 < bound.value < 4, bound.high
    (True, inf)
    """
    if not 0 <= delta < 1:
        raise ValueError(f"delta must lie in [0, 1), not {delta}")
    sides = split(scores, is_member)
    if min(map(len, sides)) < 2:
        raise UserError("An epsilon bound needs 2 members and 2 non-members.", "add examples.")
    random = np.random.default_rng(seed)
    members, non_members = (random.permutation(side) for side in sides)
    choose = members[: len(members) // 2], non_members[: len(non_members) // 2]
    test = members[len(members) // 2 :], non_members[len(non_members) // 2 :]
    cuts = thin(np.unique(np.concatenate(choose)))

    def bounds(
        pair: tuple[NDArray[np.float64], ...], at: NDArray[np.float64], flip: bool
    ) -> NDArray[np.float64]:
        counts = count_beyond(pair[::-1] if flip else pair, at, flip)
        return _epsilon_of_rates(*counts, delta=delta, confidence=confidence)

    above, below = bounds(choose, cuts, False), bounds(choose, cuts, True)
    flip = bool(below.max() > above.max())
    best = cuts[[int(np.argmax(below if flip else above))]]
    bound = float(bounds(test, best, flip)[0])
    method = "threshold from one half, Clopper-Pearson on the other (Kairouz et al. 2015)"
    return Estimate(bound, bound, math.inf, confidence, method)


def epsilon_one_run(
    n_guesses: int, n_right: int, delta: float, n_canaries: int, confidence: float = 0.95
) -> Estimate:
    """Bound epsilon by one training run with canaries (Steinke et al., NeurIPS 2023, arXiv 2305.08846).

    Each of `n_canaries` was in the training set by a fair coin of its own, and membership of
    `n_guesses` of them was guessed, with abstention on the rest. The bound is the largest epsilon
    that so many right guesses reject.

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

    >>> round(epsilon_one_run(100, 100, delta=0.0, n_canaries=100).value, 2)
    3.49
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
    """Bound epsilon by `epsilon_one_run`, guessing the highest scores as members, the lowest as not.

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

    >>> scores, is_member = np.arange(100), np.arange(100) >= 50
    >>> round(one_run_bound(scores, is_member, n_guesses=100, delta=0.0).value, 2)
    3.49
    """
    values, member = check_scores(scores, is_member)
    if not 0 < n_guesses <= len(values):
        raise ValueError(f"{n_guesses} guesses cannot be made on {len(values)} canaries")
    mixed = np.random.default_rng(seed).permutation(len(values))
    order = mixed[np.argsort(values[mixed], kind="stable")]
    bottom = n_guesses // 2
    top = n_guesses - bottom
    n_right = int((~member[order[:bottom]]).sum() + member[order[-top:]].sum())
    return epsilon_one_run(n_guesses, n_right, delta, len(values), confidence)


def thin(cuts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keep at most 2 x CUTS thresholds, densest at either end, where the bounds change fastest."""
    ranks = np.unique(np.geomspace(1, len(cuts), min(CUTS, len(cuts))).astype(int)) - 1
    return cuts[np.union1d(ranks, len(cuts) - 1 - ranks)]


def count_beyond(
    pair: tuple[NDArray[np.float64], ...], cuts: NDArray[np.float64], flip: bool
) -> tuple[NDArray[np.int64], int, NDArray[np.int64], int]:
    """Count the scores of both sides beyond each cut: at or above it, or below it if `flip`."""
    first, second = (np.searchsorted(np.sort(side), cuts, "left") for side in pair)
    m, n = len(pair[0]), len(pair[1])
    return (first, m, second, n) if flip else (m - first, m, n - second, n)


def _epsilon_of_rates(
    hits: NDArray[np.int64],
    m: int,
    false: NDArray[np.int64],
    n: int,
    *,
    delta: float,
    confidence: float,
) -> NDArray[np.float64]:
    """Compute the bound for each pair of counts, `hits` of m and `false` of n; at least 0."""
    # Kairouz et al., ICML 2015, theorem 2.1: TPR <= e^epsilon FPR + delta, and the same for TNR and
    # FNR, so epsilon >= log((TPR - delta) / FPR), with the lower end of TPR and the upper of FPR.
    error = (1 - confidence) / 2
    low = np.where(hits > 0, beta.ppf(error, np.maximum(hits, 1), m - hits + 1), 0.0)
    high = np.where(false < n, beta.ppf(1 - error, false + 1, np.maximum(n - false, 1)), 1.0)
    with np.errstate(divide="ignore"):
        return np.maximum(np.log(np.maximum(low - delta, 0) / high), 0.0)


def _p_value(r: int, v: int, epsilon: float, delta: float, m: int) -> float:
    """Bound the probability of v or more of r right guesses under (epsilon, delta)-DP."""
    # Steinke et al. 2023, theorem 5.2 and corollary 5.4, with X ~ Binomial(r, e^eps / (1 + e^eps)):
    # P[X >= v] + 2 m delta max_i P[v > X >= v - i] / i.
    if v == 0:
        return 1.0
    q = 1 / (1 + math.exp(-epsilon))
    p = float(betainc(v, r - v + 1, q))  # P[Binomial(r, q) >= v]
    if delta > 0:
        i = np.arange(1, v + 1)
        at_least = np.append(betainc(v - i[:-1], r - v + i[:-1] + 1, q), 1.0)
        p += 2 * m * delta * float(((at_least - p) / i).max())
    return min(p, 1.0)
