"""Calibration: whether a classifier that says 80 % is right in 80 % of the cases."""

import numpy as np
from numpy.typing import ArrayLike


def expected_calibration_error(
    probabilities: ArrayLike, labels: ArrayLike, bins: int = 15
) -> float:
    """Return the expected calibration error (Guo et al. 2017, arXiv 1706.04599, eq. 3), in [0, 1].

    ECE = sum_b (n_b / n) |accuracy_b - confidence_b| over bins of equal width of the largest probability.

    Args:
        probabilities: (N, C), rows that sum to 1; soft labels, for instance.
        labels: int (N,), the true classes.
        bins: of the confidence, of equal width.

    Raises:
        ValueError: no rows, rows that are no probabilities, or labels that do not fit.

    Example:
        >>> expected_calibration_error([[0.8, 0.2]] * 4, [0, 0, 0, 1])  # right in 3 of 4 cases at 80 %
        0.05
    """
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    if p.ndim != 2 or len(p) == 0 or y.shape != (len(p),):
        raise ValueError(
            f"probabilities must be (N, C) and labels (N,), not {p.shape} and {y.shape}"
        )
    if p.min() < 0 or not np.allclose(p.sum(1), 1, atol=1e-3):
        raise ValueError("rows of probabilities must be at least 0 and sum to 1")
    confidence, right = p.max(1), p.argmax(1) == y
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gap = np.bincount(place, right - confidence, bins)
    return round(float(np.abs(gap).sum() / len(p)), 12)
