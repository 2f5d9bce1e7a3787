"""Membership attacks as pure functions of arrays: larger score = more likely a member.

Everywhere `target` is float64 (N,), the logit-scaled confidences of the audited model (see
`signals.logit_scaled`), `shadow` (S, N) those of the shadows, and `membership` bool (S, N) says
which examples each shadow was trained on.
"""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tckr.errors import UserError

Variance = Literal["per_example", "global"]

# Below this a spread is rounding, and a division by it would be noise.
SMALLEST_VARIANCE = 1e-12


def threshold(target: ArrayLike) -> NDArray[np.float64]:
    """Global threshold on the model's own confidence; no shadows (Yeom et al., arXiv 1709.01604)."""
    return _finite("target", target)


def lira(
    target: ArrayLike,
    shadow: ArrayLike,
    membership: ArrayLike,
    online: bool = True,
    variance: Variance = "per_example",
) -> NDArray[np.float64]:
    """Likelihood-ratio attack of Carlini et al., S&P 2022 (arXiv 2112.03570).

    Online (algorithm 1): log N(phi; mu_in, s_in^2) - log N(phi; mu_out, s_out^2), each mean over
    the shadows with, and without, that example. Offline (equation 4): the one-sided
    z = (phi - mu_out) / s_out; the paper's 1 - P[Z > phi] is its normal distribution function and
    ranks alike. Means are always per example.

    Args:
        target: (N,).
        shadow: (S, N).
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
    target, shadow = _finite("target", target), _finite("shadow", shadow)
    inside = np.asarray(membership, dtype=bool)
    if target.ndim != 1 or shadow.shape != inside.shape or shadow.shape[1:] != target.shape:
        raise UserError(
            f"Attack arrays do not fit: target {target.shape}, shadow {shadow.shape}, membership"
            f" {inside.shape}.",
            "give (N,), (S, N) and (S, N) of the same examples.",
        )
    mean_out, variance_out = _moments(shadow, ~inside, variance)
    if not online:
        return (target - mean_out) / np.sqrt(variance_out)
    mean_in, variance_in = _moments(shadow, inside, variance)
    return _log_normal(target, mean_in, variance_in) - _log_normal(target, mean_out, variance_out)


def _finite(name: str, values: ArrayLike) -> NDArray[np.float64]:
    array = np.array(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise UserError(
            f"{np.count_nonzero(~np.isfinite(array))} {name} scores are NaN or infinite.",
            "check that the models trained: such a score has no place in a ranking.",
        )
    return array


def _moments(
    scores: NDArray[np.float64], chosen: NDArray[np.bool_], variance: Variance
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and unbiased variance of the chosen scores of each example; (N,) each."""
    counts = chosen.sum(0)
    fewest = int(counts.min())
    if fewest < 1 or (variance == "per_example" and fewest < 2) or counts.sum() <= len(counts):
        raise UserError(
            f"An example has {fewest} shadow scores of one kind: too few for a {variance} variance.",
            "use more shadows, with every example in half of them.",
        )
    mean = np.where(chosen, scores, 0).sum(0) / counts
    squares = np.where(chosen, (scores - mean) ** 2, 0).sum(0)
    if variance == "global":
        pooled = squares.sum() / (counts.sum() - len(counts))
        return mean, np.full_like(mean, max(pooled, SMALLEST_VARIANCE))
    return mean, np.maximum(squares / (counts - 1), SMALLEST_VARIANCE)


def _log_normal(
    x: NDArray[np.float64], mean: NDArray[np.float64], variance: NDArray[np.float64]
) -> NDArray[np.float64]:
    return -0.5 * ((x - mean) ** 2 / variance + np.log(2 * np.pi * variance))
