"""AUC of an attack, and accuracy over privacy (AOP), which is computed from it."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, rankdata, t

from tckr.metrics.estimate import (
    AucEstimate,
    Estimate,
    Weights,
    clopper_pearson,
    cluster_bootstrap,
    on_logit_scale,
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
    """Estimate the area under the ROC curve: P[a member scores higher] + P[tie] / 2.

    Without `clusters` the interval is that of DeLong et al. (Biometrics 1988), computed for the
    logit of the AUC, so that it stays inside (0, 1). With them it is built in the same way on the
    standard deviation of a cluster bootstrap and Student's t (with few examples both the percentile
    and the BCa interval cover the truth too rarely). If every member scores above every non-member
    (or the reverse) neither sees any spread; then the bound is the exact one for as many disjoint
    pairs as there are, all won.

    Args:
        scores: (N,), larger = more likely a member.
        is_member: bool (N,).
        confidence: of the interval, in (0, 1).
        clusters: int (N,), the example behind each score if some have several (over shadows), some
            as a member and some not.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        UserError: NaN scores, or members or non-members missing; fewer than two clusters.

    >>> auc([1, 2, 2, 3], [False, True, False, True]).value
    0.875
    >>> random, is_member = np.random.default_rng(0), np.arange(200) < 100
    >>> scores = random.normal(size=200) + is_member
    >>> auc(scores, is_member).low > 0.5
    True
    """
    if clusters is not None:
        return _clustered_auc(scores, is_member, confidence, clusters, resamples, seed)
    members, non_members = split(scores, is_member)
    m, n = len(members), len(non_members)
    ranks = rankdata(np.concatenate([members, non_members]))
    # DeLong et al. 1988: structural components, the share of non-members that each member
    # beats and of members that beat each non-member, ties half. Their mean is the AUC, and the sum of
    # their variances over m and n its variance.
    components_in = (ranks[:m] - rankdata(members)) / n
    components_out = 1 - (ranks[m:] - rankdata(non_members)) / m
    value = float(components_in.mean())
    variance = _variance(components_in) / m + _variance(components_out) / n
    if 0 < value < 1 and variance > 0:
        low, high = on_logit_scale(value, math.sqrt(variance), norm.ppf((1 + confidence) / 2))
        method = "DeLong, logit scale"
    else:
        low, high = _disjoint_pairs(value, min(m, n), confidence)
        method = "exact bound from disjoint pairs"
    return AucEstimate(value, low, high, confidence, method, m, n)


def covers_half(estimate: AucEstimate) -> bool:
    """Return whether the interval covers 0.5, the AUC of random guessing: no proof that nothing leaks.

    >>> covers_half(auc([1, 2, 3, 4], [True, False, True, False]))
    True
    """
    return estimate.low <= 0.5 <= estimate.high


def accuracy_over_privacy(
    accuracy_percent: float, auc_mia: float | Estimate, n_test: int | None = None
) -> Estimate:
    """Estimate accuracy over privacy, AOP (Lomurno et al., BMVC 2023, arXiv 2306.03054).

    The interval is that of the AUC carried through the formula, the accuracy taken as exact. An estimate whose interval
    lies below one half is of an attack the wrong way round, which whoever tries it on shadows of their own turns: there
    1 - AUC counts.
    With `n_test` the accuracy has its own interval too (Clopper-Pearson, at the confidence of the
    AUC); both hold together at the confidence that Bonferroni's inequality leaves (95 % each: 90 %
    together), which is the one stated.

    Args:
        accuracy_percent: 0..100.
        auc_mia: in [0, 1]; an estimate gives the result its interval, a plain number none.
        n_test: images on which the accuracy was measured; needs `auc_mia` as an estimate.

    Returns:
        AOP in percent, 0..100; equal to the accuracy if the AUC is 0.5 or less and not inverted.

    Raises:
        ValueError: a value out of range, for instance an AUC in percent; `n_test` beside a plain
            number.

    >>> round(accuracy_over_privacy(93.8, 0.55).value, 1)
    77.5
    """
    given_as_estimate = isinstance(auc_mia, Estimate)
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
    if given_as_estimate and auc_mia.high < 0.5:
        value, low, high = 1 - auc_mia.value, 1 - auc_mia.high, 1 - auc_mia.low
        auc_mia = Estimate(value, low, high, confidence, auc_mia.method)
        method += "; inverted"
    if n_test is not None:
        right = round(accuracy_percent / 100 * n_test)
        worst, best = (100 * end for end in clopper_pearson(right, n_test, confidence))
        confidence = 1 - 2 * (1 - confidence)
        method += "; from the accuracy: Clopper-Pearson; together by Bonferroni"
    # AOP = accuracy / max(2 AUC_MIA, 1)^lambda, with lambda = 2 as in TCKR.
    value, low, high = (
        accuracy / max(2 * area, 1) ** 2
        for accuracy, area in (
            (accuracy_percent, auc_mia.value),
            (worst, auc_mia.high),
            (best, auc_mia.low),
        )
    )
    return Estimate(value, low, high, confidence, method)


def _clustered_auc(
    scores: ArrayLike,
    is_member: ArrayLike,
    confidence: float,
    clusters: ArrayLike,
    resamples: int,
    seed: int,
) -> AucEstimate:
    members, non_members, n_clusters = split_clusters(scores, is_member, clusters)
    m, n = len(members.scores), len(non_members.scores)
    # The number of non-members below each member, and not above it.
    below = np.searchsorted(non_members.scores, members.scores, "left")
    upto = np.searchsorted(non_members.scores, members.scores, "right")
    ties = bool((below != upto).any())
    value = float((below + upto).mean()) / (2 * n)

    def area(weights: Weights) -> NDArray[np.float64]:
        weights_in = weights.take(members.clusters, axis=1)
        cumulated_out = np.zeros((len(weights), n + 1))
        np.cumsum(weights.take(non_members.clusters, axis=1), axis=1, out=cumulated_out[:, 1:])
        beaten = cumulated_out.take(below, axis=1)
        if ties:
            beaten = (beaten + cumulated_out.take(upto, axis=1)) / 2
        pairs = weights_in.sum(1) * cumulated_out[:, -1]
        with np.errstate(invalid="ignore"):  # 0 / 0: a resample without members or non-members
            return np.einsum("ij,ij->i", weights_in, beaten) / pairs

    resampled = cluster_bootstrap(area, n_clusters, m + n, resamples, seed)
    spread = float(resampled.std(ddof=1)) if len(resampled) > 1 else 0.0
    if spread > 1e-12:  # more than rounding
        low, high = on_logit_scale(value, spread, t.ppf((1 + confidence) / 2, n_clusters - 1))
        method = f"cluster bootstrap, logit scale, {len(resampled):,} draws"
    else:
        clusters_in, clusters_out = (
            len(np.unique(side.clusters)) for side in (members, non_members)
        )
        pairs = min(clusters_in, clusters_out, n_clusters // 2)
        low, high = _disjoint_pairs(value, pairs, confidence)
        method = "exact bound from disjoint pairs of clusters"
    return AucEstimate(value, low, high, confidence, method, m, n, n_clusters)


def _disjoint_pairs(value: float, pairs: int, confidence: float) -> tuple[float, float]:
    """Compute the exact interval of an AUC of 0 or 1 from the number of disjoint pairs."""
    # Clopper-Pearson with every pair won (or lost): 1 - error^(1 / pairs).
    margin = 1 - ((1 - confidence) / 2) ** (1 / pairs)
    return max(0.0, value - margin), min(1.0, value + margin)


def _variance(values: NDArray[np.float64]) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else 0.0
