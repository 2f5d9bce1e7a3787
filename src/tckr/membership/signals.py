"""What an attack sees of a model: one figure an example."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp


def logit_scaled(logits: ArrayLike, labels: ArrayLike) -> NDArray[np.float64]:
    """Logit-scaled confidence of the true class, phi = log p_y - log sum_{y' != y} p_y'.

    Carlini et al., S&P 2022 (arXiv 2112.03570), section VI-A, in its stable form: the softmax
    cancels, so that phi = z_y - logsumexp_{y' != y} z_y' without ever rounding p_y to 1.

    Args:
        logits: (N, C), C >= 2, raw outputs before any softmax.
        labels: int (N,), true classes.

    Returns:
        float64 (N,), unbounded.

    Raises:
        ValueError: shapes that do not fit, or a logit that is not finite.
    """
    z = np.asarray(logits, dtype=np.float64)
    y = np.asarray(labels, dtype=np.int64)
    if z.ndim != 2 or z.shape[1] < 2 or y.shape != (len(z),):
        raise ValueError(f"need logits (N, C >= 2) and labels (N,), not {z.shape} and {y.shape}")
    if not np.isfinite(z).all():
        raise ValueError("a logit is NaN or infinite")
    rows = np.arange(len(z))
    others = z.copy()
    others[rows, y] = -np.inf
    return z[rows, y] - logsumexp(others, axis=1)
