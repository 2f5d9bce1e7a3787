"""The robust membership inference attack: an example against a population."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_expit, logsumexp

from tckr.attacks.arrays import Floats, checked
from tckr.errors import UserError


def rmia(
    target: ArrayLike,
    shadow: ArrayLike,
    membership: ArrayLike,
    population: ArrayLike | None = None,
    gamma: float = 1.0,
    *,
    online: bool = True,
    offline_a: float = 0.3,
) -> Floats:
    """Robust membership inference attack of Zarifzadeh et al., ICML 2024 (arXiv 2312.03262).

    Score of x: the share of the population z with LR(x, z) = (p(x|model) / p(x)) / (p(z|model) /
    p(z)) >= gamma. The confidence is p(.|model) = sigmoid(phi); the reference is p = (mean of it
    over the shadows with the example + mean over those without) / 2. Offline, the mean with the
    example is replaced by a p_out + (1 - a).

    The pairwise test compares two numbers, so that sorting the population answers it: O(N log N).
    It also means that the score rises with p(x|model) / p(x) whatever the population, which
    sets the scale of the scores and how many of them are equal. The paper takes the population from
    data outside every training set; the default here is all examples.
    Several queries (our choice): the mean over the queries of each query's own score.

    Args:
        target: (N,), or (N, Q), logit-scaled confidences phi.
        shadow: (S, N), or (S, N, Q).
        membership: (S, N).
        population: int indices, or bool (N,), of the examples that play z; None: all.
        gamma: positive; above 1 for a stricter test of each pair.
        online: whether shadows that contain the example are used.
        offline_a: `a` in [0, 1]; it depends on model and data: choose it with a shadow as target.

    Returns:
        float64 (N,) in [0, 1].

    Raises:
        UserError: NaN scores, shapes that do not fit, an example without a shadow of either kind,
            no population.
        ValueError: `gamma` or `offline_a` out of range.
    """
    if gamma <= 0 or not 0 <= offline_a <= 1:
        raise ValueError(f"need gamma > 0 and 0 <= offline_a <= 1, not {gamma} and {offline_a}")
    x, scores, inside = checked(target, shadow, membership)
    confidence = log_expit(scores)
    without = _log_mean(confidence, ~inside)
    if online:
        reference = np.logaddexp(_log_mean(confidence, inside), without) - np.log(2)
    else:
        with np.errstate(divide="ignore"):  # a = 1 leaves p_out alone
            rest = np.log((1 - offline_a) / 2)
        reference = np.logaddexp(without + np.log((1 + offline_a) / 2), rest)
    ratio = log_expit(x) - reference
    others = np.sort(ratio[_indices(population, len(ratio))], axis=0)
    beaten = [
        np.searchsorted(z, own - np.log(gamma), "right")
        for z, own in zip(others.T, ratio.T, strict=True)
    ]
    return np.mean(beaten, axis=0) / len(others)


def _log_mean(confidence: Floats, chosen: NDArray[np.bool_]) -> Floats:
    """Log of the mean over the chosen shadows of confidences (S, N, Q) given as logs; (N, Q)."""
    count = chosen.sum(0)
    if count.min() < 1:
        raise UserError(
            "An example has no shadow score of one kind.",
            "use more shadows, with every example in half of them.",
        )
    return logsumexp(np.where(chosen, confidence, -np.inf), axis=0) - np.log(count)


def _indices(population: ArrayLike | None, n_examples: int) -> NDArray[np.int64]:
    chosen = np.arange(n_examples) if population is None else np.asarray(population)
    if chosen.dtype == bool and chosen.shape == (n_examples,):
        chosen = np.flatnonzero(chosen)
    whole = chosen.ndim == 1 and len(chosen) > 0 and np.issubdtype(chosen.dtype, np.integer)
    if not whole or chosen.min() < 0 or chosen.max() >= n_examples:
        raise UserError(
            f"The population does not name some of the {n_examples} examples.",
            "give their int indices or a bool mask (N,), at least one.",
        )
    return chosen.astype(np.int64)
