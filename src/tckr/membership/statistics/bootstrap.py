"""The cluster bootstrap: whole examples are drawn with replacement, each with all its scores.

A replicate is never built: an example drawn k times gives its scores the weight k, so scores are
sorted once and a replicate costs a few passes over them.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import norm, t

# Weights of this many scores are held at once, whatever the number of replicates.
BLOCK = 1 << 20

Weights = NDArray[np.float64]


def replicates(
    statistic: Callable[[Weights], NDArray[np.float64]],
    n_clusters: int,
    n_scores: int,
    resamples: int,
    seed: int,
) -> NDArray[np.float64]:
    """The statistic (B,) over draws of the clusters; those where it is not defined are left out.

    Args:
        statistic: takes weights float64 (rows, n_clusters), gives (rows,), NaN = not defined.
        n_scores: in all; bounds the rows handed over at once, and with them the memory.
        resamples: B, before any are left out.
        seed: of the draws.
    """
    random = np.random.default_rng(seed)
    rows = max(1, min(resamples, BLOCK // n_scores))
    values = []
    for start in range(0, resamples, rows):
        n = min(rows, resamples - start)
        drawn = random.integers(n_clusters, size=(n, n_clusters))
        drawn += n_clusters * np.arange(n)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=n * n_clusters)
        values.append(statistic(counts.reshape(n, n_clusters).astype(np.float64)))
    every = np.concatenate(values)
    return every[~np.isnan(every)]


def percentile(
    drawn: NDArray[np.float64], n_clusters: int, confidence: float
) -> tuple[float, float]:
    """Percentile interval, expanded for few clusters (Hesterberg, Am. Statistician 2015, 4.3)."""
    wide = math.sqrt(n_clusters / (n_clusters - 1)) * t.ppf((1 + confidence) / 2, n_clusters - 1)
    low, high = np.quantile(drawn, norm.cdf([-wide, wide]))
    return float(low), float(high)


def on_logit_scale(value: float, error: float, quantile: float) -> tuple[float, float]:
    """Ends at logit(value) -+ quantile x the standard error carried to that scale.

    Args:
        value: in (0, 1); so are the ends.
        error: standard error of the value, > 0.
        quantile: of the standardised figure, for instance 1.96.
    """
    width = quantile * error / (value * (1 - value))
    low, high = expit(logit(value) + np.array([-width, width]))
    return float(low), float(high)
