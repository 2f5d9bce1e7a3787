"""The likelihood-ratio attack."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tckr.attacks.arrays import SMALLEST_VARIANCE, Floats, Variance, checked, moments


def lira(
    target: ArrayLike,
    shadow: ArrayLike,
    membership: ArrayLike,
    online: bool = True,
    variance: Variance = "per_example",
) -> Floats:
    """Likelihood-ratio attack of Carlini et al., S&P 2022 (arXiv 2112.03570).

    Online (algorithm 1): log N(phi; mu_in, s_in^2) - log N(phi; mu_out, s_out^2), each mean over
    the shadows with, and without, that example. Offline (equation 4): the one-sided
    z = (phi - mu_out) / s_out; the paper's 1 - P[Z > phi] is its normal distribution function and
    ranks alike. Means are always per example.

    Several queries (augmented views): the mean over the queries of each query's own score, with its
    own Gaussians. That is 1 / Q of the log-ratio of the paper's Q-dimensional Gaussians where their
    covariance is diagonal, and needs no more shadows than one query does.

    Args:
        target: (N,), or (N, Q).
        shadow: (S, N), or (S, N, Q).
        membership: (S, N).
        online: whether shadows that contain the example are used.
        variance: "per_example", or "global" for one variance of the "in" and one of the "out"
            scores, pooled over the examples about their own means. The paper advises the global one
            below 64 shadows, where a variance of a few scores is mostly noise.

    Returns:
        float64 (N,).

    Raises:
        UserError: NaN scores, shapes that do not fit, or too few shadows for the variance.
    """
    x, scores, inside = checked(target, shadow, membership)
    mean_out, variance_out = _gaussian(scores, ~inside, variance)
    if not online:
        return ((x - mean_out) / np.sqrt(variance_out)).mean(1)
    mean_in, variance_in = _gaussian(scores, inside, variance)
    return (log_normal(x, mean_in, variance_in) - log_normal(x, mean_out, variance_out)).mean(1)


def log_normal(x: Floats, mean: Floats, variance: Floats) -> Floats:
    """Log density of N(mean, variance) at x; the three broadcast."""
    return -0.5 * ((x - mean) ** 2 / variance + np.log(2 * np.pi * variance))


def _gaussian(
    scores: Floats, chosen: NDArray[np.bool_], variance: Variance
) -> tuple[Floats, Floats]:
    """Mean and unbiased variance of the chosen scores of each example; (N, Q) each."""
    count, mean, squares = moments(scores, chosen, variance)
    if variance == "global":
        pooled = squares.sum(0) / (count.sum() - len(count))
        return mean, np.broadcast_to(np.maximum(pooled, SMALLEST_VARIANCE), mean.shape)
    return mean, np.maximum(squares / (count - 1), SMALLEST_VARIANCE)
