"""Area under the ROC curve: of independent examples, or of examples with several scores each."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, rankdata, t

from tckr.metrics.estimate import (
    AucEstimate,
    Estimate,
    Weights,
    clopper_pearson,
    on_logit_scale,
    replicates,
    split,
    split_clusters,
)


def auc(
    scores: ArrayLike,
    is_member: ArrayLike,
    confidence: float = 0.95,
    clusters: ArrayLike | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> AucEstimate:
    """P[member scores higher] + P[tie] / 2, with its interval.

    Without `clusters` the interval is that of DeLong et al. (Biometrics 1988), computed for the
    logit of the AUC, so that it stays inside (0, 1). With them it is built in the same way on the
    standard deviation of a cluster bootstrap and Student's t (with few examples both the percentile
    and the BCa interval hold the truth too rarely). Where every member scores above every
    non-member (or the reverse) neither sees any spread; then the bound is the exact one for as many
    disjoint pairs as there are, all won.

    Args:
        scores: (N,), larger = more likely a member.
        is_member: bool (N,).
        confidence: of the interval.
        clusters: int (N,), the example behind each score where one has several (over shadows),
            some as a member and some not.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        UserError: NaN scores, or members or non-members missing; fewer than two clusters.
    """
    if clusters is not None:
        return _clustered(scores, is_member, confidence, clusters, resamples, seed)
    inside, outside = split(scores, is_member)
    m, n = len(inside), len(outside)
    everything = rankdata(np.concatenate([inside, outside]))
    # Placement values: share of the other side that each score beats, ties half.
    of_members = (everything[:m] - rankdata(inside)) / n
    of_others = 1 - (everything[m:] - rankdata(outside)) / m
    value = float(of_members.mean())
    variance = _variance(of_members) / m + _variance(of_others) / n
    if 0 < value < 1 and variance > 0:
        low, high = on_logit_scale(value, math.sqrt(variance), norm.ppf((1 + confidence) / 2))
        method = "DeLong, logit scale"
    else:
        low, high = _disjoint_pairs(value, min(m, n), confidence)
        method = "exact bound from disjoint pairs"
    return AucEstimate(value, low, high, confidence, method, m, n)


def no_leak(estimate: AucEstimate) -> bool:
    """Whether the interval covers 0.5, the AUC of an attack that knows nothing."""
    return estimate.low <= 0.5 <= estimate.high


def _clustered(
    scores: ArrayLike,
    is_member: ArrayLike,
    confidence: float,
    clusters: ArrayLike,
    resamples: int,
    seed: int,
) -> AucEstimate:
    inside, outside, n_clusters = split_clusters(scores, is_member, clusters)
    m, n = len(inside.scores), len(outside.scores)
    # Of the non-members, so many lie below each member, and so many not above it.
    below = np.searchsorted(outside.scores, inside.scores, "left")
    upto = np.searchsorted(outside.scores, inside.scores, "right")
    ties = bool((below != upto).any())
    value = float((below + upto).mean()) / (2 * n)

    def area(weights: Weights) -> NDArray[np.float64]:
        heavy = weights.take(inside.clusters, axis=1)
        lower = np.zeros((len(weights), n + 1))
        np.cumsum(weights.take(outside.clusters, axis=1), axis=1, out=lower[:, 1:])
        beaten = lower.take(below, axis=1)
        if ties:
            beaten = (beaten + lower.take(upto, axis=1)) / 2
        with np.errstate(invalid="ignore"):  # 0 / 0: a draw without members or non-members
            return np.einsum("ij,ij->i", heavy, beaten) / (heavy.sum(1) * lower[:, -1])

    drawn = replicates(area, n_clusters, m + n, resamples, seed)
    spread = float(drawn.std(ddof=1)) if len(drawn) > 1 else 0.0
    if spread > 1e-12:  # more than rounding
        low, high = on_logit_scale(value, spread, t.ppf((1 + confidence) / 2, n_clusters - 1))
        method = f"cluster bootstrap, logit scale, {len(drawn):,} draws"
    else:
        with_member, without = (len(np.unique(side.clusters)) for side in (inside, outside))
        pairs = min(with_member, without, n_clusters // 2)
        low, high = _disjoint_pairs(value, pairs, confidence)
        method = "exact bound from disjoint pairs of clusters"
    return AucEstimate(value, low, high, confidence, method, m, n, n_clusters)


def _disjoint_pairs(value: float, pairs: int, confidence: float) -> tuple[float, float]:
    margin = 1 - ((1 - confidence) / 2) ** (1 / pairs)
    return max(0.0, value - margin), min(1.0, value + margin)


def _variance(values: NDArray[np.float64]) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else 0.0


def accuracy_over_privacy(
    accuracy_percent: float, auc_mia: float | Estimate, n_test: int | None = None
) -> Estimate:
    """AOP = accuracy / max(2 AUC_MIA, 1)^2 (Lomurno et al., arXiv 2306.03054; lambda = 2 as TCKR).

    The interval is that of the AUC carried through the formula, the accuracy taken as measured.
    With `n_test` the accuracy has its own interval too (Clopper-Pearson, at the confidence of the
    AUC); both hold together at the confidence that Bonferroni's inequality leaves (95 % each: 90 %
    together), which is the one stated.

    Args:
        accuracy_percent: 0..100.
        auc_mia: in [0, 1]; an estimate gives the result its interval, a plain number none.
        n_test: images on which the accuracy was measured; needs `auc_mia` as an estimate.

    Raises:
        ValueError: a figure out of range, for instance an AUC in percent; `n_test` beside a plain
            number.
    """
    if not isinstance(auc_mia, Estimate):
        if n_test is not None:
            raise ValueError("n_test needs auc_mia as an estimate, which states the confidence")
        auc_mia = Estimate(auc_mia, auc_mia, auc_mia, 1.0, "AUC taken as exact")
    if not 0 <= accuracy_percent <= 100 or not 0 <= auc_mia.value <= 1:
        raise ValueError(
            f"accuracy {accuracy_percent} must lie in 0..100 and AUC {auc_mia.value} in 0..1"
        )
    worst = best = accuracy_percent
    confidence, method = auc_mia.confidence, f"from the AUC: {auc_mia.method}"
    if n_test is not None:
        right = round(accuracy_percent / 100 * n_test)
        worst, best = (100 * end for end in clopper_pearson(right, n_test, confidence))
        confidence = 1 - 2 * (1 - confidence)
        method += "; from the accuracy: Clopper-Pearson; together by Bonferroni"
    value, low, high = (
        accuracy / max(2 * area, 1) ** 2
        for accuracy, area in (
            (accuracy_percent, auc_mia.value),
            (worst, auc_mia.high),
            (best, auc_mia.low),
        )
    )
    return Estimate(value, low, high, confidence, method)
