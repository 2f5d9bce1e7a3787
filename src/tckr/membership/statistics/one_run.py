"""A lower bound of epsilon from one training run with canaries (Steinke, Nasr & Jagielski)."""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betainc

from tckr.membership.statistics.estimate import Estimate
from tckr.membership.statistics.sides import checked


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
