"""LiRA, the likelihood-ratio attack."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tckr.attacks.arrays import SMALLEST_VARIANCE, Floats, Variance, check_scores, moments


def lira(
    target_scores: ArrayLike,
    shadow_scores: ArrayLike,
    membership: ArrayLike,
    online: bool = True,
    variance: Variance = "per_example",
) -> Floats:
    """Run the likelihood-ratio attack of Carlini et al. (S&P 2022, arXiv 2112.03570).

    Each example gets two Gaussians of its logit-scaled confidence phi: one fitted to the shadows
    trained on it ("in"), one to those trained without it ("out"). Means are always per example.

    With several queries (augmented views) the score is the mean over the queries of each query's
    own score. That is 1 / Q of the log-ratio of the paper's Q-dimensional Gaussians if their
    covariance is diagonal, and needs no more shadows than one query does.

    Args:
        target_scores: phi of the audited model, (N,) or (N, Q).
        shadow_scores: phi of the shadows, (S, N) or (S, N, Q).
        membership: bool (S, N), which examples each shadow was trained on.
        online: True: log-ratio of the "in" and the "out" Gaussian. False: one-sided test under the
            "out" Gaussian; shadows that contain the example are not used.
        variance: "per_example"; or "global", one variance for the "in" scores and one for the "out"
            scores, pooled over the examples about their own means. The paper recommends "global"
            below 64 shadows, where a variance of a few scores is mostly noise.

    Returns:
        float64 (N,), larger = more likely a member.

    Raises:
        UserError: NaN scores, shapes that do not fit, or too few shadows for the variance.

    Four shadows, two examples; the first example is scored as the shadows with it score it:

    >>> target_scores = [3.0, 0.0]
    >>> shadow_scores = [[0.0, 1.0], [2.0, 0.0], [1.0, -1.0], [4.0, 2.0]]
    >>> membership = [[False, True], [True, False], [False, False], [True, True]]
    >>> lira(target_scores, shadow_scores, membership).round(2).tolist()
    [5.56, -2.0]
    >>> lira(target_scores, shadow_scores, membership, online=False).round(2).tolist()
    [3.54, 0.71]
    """
    phi, shadow_phi, is_in = check_scores(target_scores, shadow_scores, membership)
    mean_out, variance_out = _fit_gaussian(shadow_phi, ~is_in, variance)
    if not online:
        # Eq. 4: 1 - P[Z > phi] for Z ~ N(mu_out, s_out^2); ranked by its argument, which does not
        # saturate: z = (phi - mu_out) / s_out.
        return ((phi - mean_out) / np.sqrt(variance_out)).mean(1)
    mean_in, variance_in = _fit_gaussian(shadow_phi, is_in, variance)
    # Algorithm 1, last line: log N(phi; mu_in, s_in^2) - log N(phi; mu_out, s_out^2).
    return (log_normal(phi, mean_in, variance_in) - log_normal(phi, mean_out, variance_out)).mean(1)


def log_normal(x: Floats, mean: Floats, variance: Floats) -> Floats:
    """Return the log density of N(mean, variance) at x; the three broadcast."""
    return -0.5 * ((x - mean) ** 2 / variance + np.log(2 * np.pi * variance))


def _fit_gaussian(
    shadow_phi: Floats, selected: NDArray[np.bool_], variance: Variance
) -> tuple[Floats, Floats]:
    """Return mean and unbiased variance of each example's selected scores, (N, Q) each."""
    count, mean, sum_of_squares = moments(shadow_phi, selected, variance)
    if variance == "global":
        pooled = sum_of_squares.sum(0) / (count.sum() - len(count))
        return mean, np.broadcast_to(np.maximum(pooled, SMALLEST_VARIANCE), mean.shape)
    return mean, np.maximum(sum_of_squares / (count - 1), SMALLEST_VARIANCE)
