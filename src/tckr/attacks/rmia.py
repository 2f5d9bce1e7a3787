"""RMIA, the robust membership inference attack: each example is compared with a population."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tckr.attacks.arrays import Floats, check_scores
from tckr.errors import UserError


def rmia(
    target_scores: ArrayLike,
    shadow_scores: ArrayLike,
    membership: ArrayLike,
    population: ArrayLike | None = None,
    gamma: float = 1.0,
    *,
    online: bool = True,
    offline_a: float = 0.3,
) -> Floats:
    """Run the robust membership inference attack of Zarifzadeh et al. (ICML 2024, arXiv 2312.03262).

    The score of x is the share of the population z with LR(x, z) >= gamma, where LR(x, z) =
    (p(x|model) / p(x)) / (p(z|model) / p(z)) and p(.|model) = sigmoid(phi) is the confidence.

    The pairwise test compares two numbers, so sorting the population answers it in O(N log N). It
    also means that the score rises with p(x|model) / p(x) whatever the population, which sets the
    scale of the scores and how many of them are equal. The paper draws the population from data
    outside every training set; the default here is all examples.
    With several queries (our choice) the score is the mean over the queries of each query's own.

    Args:
        target_scores: logit-scaled confidences phi of the audited model, (N,) or (N, Q).
        shadow_scores: those of the shadows, (S, N) or (S, N, Q).
        membership: bool (S, N), which examples each shadow was trained on.
        population: int indices, or bool (N,), of the examples that serve as z; None: all.
        gamma: > 0; above 1 for a stricter test of each pair.
        online: whether shadows that contain the example are used.
        offline_a: `a` in [0, 1], of the offline attack; it depends on model and data: tune it with
            a shadow as the target.

    Returns:
        float64 (N,) in [0, 1], larger = more likely a member.

    Raises:
        UserError: NaN scores, shapes that do not fit, an example without a shadow of either kind,
            no population.
        ValueError: `gamma` or `offline_a` out of range.

    Of three examples, the target is surer than the shadows of the first alone:

    >>> shadow_scores = [[0.0, 1.0, 2.0], [1.0, 0.0, 2.0]]
    >>> membership = [[True, False, True], [False, True, False]]
    >>> rmia([3.0, 0.0, 2.0], shadow_scores, membership).round(2).tolist()
    [1.0, 0.33, 0.67]
    """
    from scipy.special import expit, log_expit

    if gamma <= 0 or not 0 <= offline_a <= 1:
        raise ValueError(f"need gamma > 0 and 0 <= offline_a <= 1, not {gamma} and {offline_a}")
    phi, shadow_phi, is_in = check_scores(target_scores, shadow_scores, membership)
    log_confidence = log_expit(shadow_phi)
    log_p_out = _log_mean(log_confidence, ~is_in)
    if online:
        # Section 3: p(x) = (p_in(x) + p_out(x)) / 2, each a mean of p(x|shadow).
        log_p = np.logaddexp(_log_mean(log_confidence, is_in), log_p_out) - np.log(2)
        # Near p = 1, where log p rounds to 0, log(1 - q) of the mean q of 1 - p = sigmoid(-phi) keeps its digits.
        q = (_mean(expit(-shadow_phi), is_in) + _mean(expit(-shadow_phi), ~is_in)) / 2
        log_p = np.where(q < 0.5, np.log1p(-np.minimum(q, 0.5)), log_p)
    else:
        # Appendix B.2.2: p_in(x) = a p_out(x) + 1 - a, so p(x) = ((1 + a) p_out(x) + 1 - a) / 2.
        with np.errstate(divide="ignore"):  # a = 1 leaves p_out alone
            log_constant = np.log((1 - offline_a) / 2)
        log_p = np.logaddexp(log_p_out + np.log((1 + offline_a) / 2), log_constant)
    # Section 3, by Bayes: LR(x, z) = (p(x|model) / p(x)) / (p(z|model) / p(z)), as a difference of logs.
    log_ratio = log_expit(phi) - log_p
    sorted_z = np.sort(log_ratio[_indices(population, len(log_ratio))], axis=0)
    # Section 3, algorithm 1: the share of z with LR(x, z) >= gamma.
    dominated = [
        np.searchsorted(z, x - np.log(gamma), "right")
        for z, x in zip(sorted_z.T, log_ratio.T, strict=True)
    ]
    return np.mean(dominated, axis=0) / len(sorted_z)


def _log_mean(log_confidence: Floats, selected: NDArray[np.bool_]) -> Floats:
    """Return the log of the mean confidence (N, Q) over each example's selected shadows."""
    from scipy.special import logsumexp

    count = selected.sum(0)
    if count.min() < 1:
        raise UserError(
            "An example has no shadow score of one kind.",
            "use more shadows, with every example in half of them.",
        )
    return logsumexp(np.where(selected, log_confidence, -np.inf), axis=0) - np.log(count)


def _mean(values: Floats, selected: NDArray[np.bool_]) -> Floats:
    return np.where(selected, values, 0.0).sum(0) / selected.sum(0)


def _indices(population: ArrayLike | None, n_examples: int) -> NDArray[np.int64]:
    chosen = np.arange(n_examples) if population is None else np.asarray(population)
    if chosen.dtype == bool and chosen.shape == (n_examples,):
        chosen = np.flatnonzero(chosen)
    is_index = chosen.ndim == 1 and len(chosen) > 0 and np.issubdtype(chosen.dtype, np.integer)
    if not is_index or chosen.min() < 0 or chosen.max() >= n_examples:
        raise UserError(
            f"The population does not name some of the {n_examples} examples.",
            "give their int indices or a bool mask (N,), at least one.",
        )
    return chosen.astype(np.int64)
