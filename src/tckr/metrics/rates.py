"""ROC curve, and true-positive rate and positive predictive value at a low false-positive rate."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom

from tckr.metrics.estimate import (
    FEWEST_FALSE_POSITIVES,
    PpvEstimate,
    Side,
    TprEstimate,
    Weights,
    clopper_pearson,
    cluster_bootstrap,
    percentile,
    split,
    split_clusters,
)


def roc(scores: ArrayLike, is_member: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the ROC curve.

    Args:
        scores: (N,), larger = more likely a member.
        is_member: bool (N,).

    Returns:
        False- and true-positive rates from (0, 0) to (1, 1), one point per distinct score.

    Raises:
        UserError: NaN scores, or members or non-members missing.

    >>> fpr, tpr = roc([0.9, 0.4, 0.6, 0.1], [True, True, False, False])
    >>> fpr.tolist(), tpr.tolist()
    ([0.0, 0.0, 0.5, 0.5, 1.0], [0.0, 0.5, 0.5, 1.0, 1.0])
    """
    members, non_members = (np.sort(side) for side in split(scores, is_member))
    cuts = np.unique(np.concatenate([members, non_members]))[::-1]
    fpr, tpr = (
        1 - np.searchsorted(side, cuts, "left") / len(side) for side in (non_members, members)
    )
    return np.concatenate([[0.0], fpr]), np.concatenate([[0.0], tpr])


def tpr_at_fpr(
    scores: ArrayLike,
    is_member: ArrayLike,
    fpr: float,
    confidence: float = 0.95,
    clusters: ArrayLike | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> TprEstimate:
    """Estimate the true-positive rate at the threshold that at most `fpr` of the non-members exceed.

    The threshold never lets more through: ties are rejected together, and nothing is interpolated.
    The interval is for the rate at a true false-positive rate of `fpr`, so it allows for the chance
    in the threshold as well as in the members. Without `clusters`, order statistics of the
    non-members bracket the threshold, Clopper-Pearson bounds the rate at either end, and a quarter
    of the error goes to each of the four statements (union bound). With them it is the percentile
    interval of a cluster bootstrap that recomputes the threshold in every resample; below about a
    hundred examples it covers the truth a little less often than stated.

    `measurable` requires ten expected false positives, and with `clusters` also ten examples among
    the non-members at or above the threshold: ten scores of one example are one event.

    Args:
        scores: (N,), larger = more likely a member.
        is_member: bool (N,).
        fpr: in (0, 1).
        confidence: of the interval, in (0, 1).
        clusters: int (N,), the example behind each score if some have several (over shadows).
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        UserError: NaN scores, or members or non-members missing; fewer than two clusters.
        ValueError: `fpr` outside (0, 1).

    >>> random, is_member = np.random.default_rng(0), np.arange(2000) < 1000
    >>> rate = tpr_at_fpr(random.normal(size=2000) + 2 * is_member, is_member, 0.01)
    >>> rate.measurable, rate.false_positives, rate.low > 0.1
    (True, 10, True)
    """
    if not 0 < fpr < 1:
        raise ValueError(f"fpr must lie in (0, 1), not {fpr}")
    if clusters is None:
        members, non_members = (np.sort(side) for side in split(scores, is_member))
        low, high = _between_order_statistics(members, non_members, fpr, confidence)
        method = (
            "Clopper-Pearson between order statistics of the non-members; covers at least as often"
        )
        n_clusters = None
    else:
        sides = split_clusters(scores, is_member, clusters)
        low, high = _bootstrap_interval(*sides, fpr, confidence, resamples, seed)
        (members, _), (non_members, clusters_out), n_clusters = sides
        method = f"cluster bootstrap, percentile, {resamples:,} draws"
    m, n = len(members), len(non_members)
    cut = non_members[-1 - math.floor(fpr * n + 1e-9)]
    true_positives, false_positives = (int((side > cut).sum()) for side in (members, non_members))
    value = true_positives / m
    low, high = min(low, value), max(high, value)  # ties can put a bootstrap beside its data
    measurable = fpr * n >= FEWEST_FALSE_POSITIVES - 1e-9
    if clusters is not None:
        sources = len(np.unique(clusters_out[non_members >= cut]))
        measurable = measurable and sources >= FEWEST_FALSE_POSITIVES
    return TprEstimate(
        value=value,
        low=low,
        high=high,
        confidence=confidence,
        method=method,
        fpr=fpr,
        realised_fpr=false_positives / n,
        false_positives=false_positives,
        true_positives=true_positives,
        n_members=m,
        n_non_members=n,
        n_clusters=n_clusters,
        measurable=measurable,
    )


def ppv(rate: TprEstimate, prior: float) -> PpvEstimate:
    """Estimate the positive predictive value: of the examples called members, the share that are.

    Both rates are those that the threshold realized; the interval joins their Clopper-Pearson
    intervals, each at half the error (union bound). The scores of clusters are not independent
    trials: there the TPR has the interval of its bootstrap, which is for a true false-positive rate
    of `rate.fpr`, and that is the FPR used.

    Args:
        rate: of the attack, at the false-positive rate of interest.
        prior: share of members among all queried examples, in (0, 1).

    Returns:
        `value` is NaN if nothing at all is called a member.

    Raises:
        ValueError: `prior` outside (0, 1).

    Nine of ten members and one of ten non-members pass; one example in ten is a member:

    >>> scores = [1.0] * 9 + [0.0] + [2.0] + [0.5] * 9
    >>> rate = tpr_at_fpr(scores, [True] * 10 + [False] * 10, 0.1)
    >>> rate.value, ppv(rate, 0.1).value
    (0.9, 0.5)
    """
    if not 0 < prior < 1:
        raise ValueError(f"prior must lie in (0, 1), not {prior}")

    def value_at(tpr: float, fpr: float) -> float:
        # Jayaraman et al., PoPETs 2021, arXiv 2005.10881: prior TPR / (prior TPR + (1 - prior) FPR).
        called_members = prior * tpr + (1 - prior) * fpr
        return prior * tpr / called_members if called_members > 0 else math.nan

    if rate.n_clusters is None:
        each = 1 - (1 - rate.confidence) / 2
        tpr = clopper_pearson(rate.true_positives, rate.n_members, each)
        fpr = clopper_pearson(rate.false_positives, rate.n_non_members, each)
        value = value_at(rate.value, rate.realised_fpr)
        method = "Clopper-Pearson of TPR and realised FPR, union bound; covers at least as often"
    else:
        tpr, fpr = (rate.low, rate.high), (rate.fpr, rate.fpr)
        value = value_at(rate.value, rate.fpr)
        method = f"at the nominal FPR, from the TPR: {rate.method}"
    return PpvEstimate(
        value=value,
        low=value_at(tpr[0], fpr[1]),
        high=value_at(tpr[1], fpr[0]),
        confidence=rate.confidence,
        method=method,
        prior=prior,
        fpr=rate.fpr,
        n_non_members=rate.n_non_members,
        n_clusters=rate.n_clusters,
        measurable=rate.measurable,
    )


def _between_order_statistics(
    members: NDArray[np.float64], non_members: NDArray[np.float64], fpr: float, confidence: float
) -> tuple[float, float]:
    """Compute the interval of the TPR at a true false-positive rate of `fpr`; scores ascending."""
    m, n = len(members), len(non_members)
    descending = non_members[::-1]
    error = (1 - confidence) / 4
    # The true rate above the j-th largest non-member is below fpr if P[Bin(n, fpr) >= j] is high...
    strict = int(binom.ppf(error, n, fpr))
    low = 0.0
    if strict > 0:
        at_least = int((members > descending[strict - 1]).sum())
        low = clopper_pearson(at_least, m, 1 - 2 * error)[0]
    # ...and above fpr if P[Bin(n, fpr) <= j - 1] is.
    loose = int(binom.ppf(1 - error, n, fpr)) + 1
    high = 1.0
    if loose <= n:
        at_most = int((members >= descending[loose - 1]).sum())
        high = clopper_pearson(at_most, m, 1 - 2 * error)[1]
    return low, high


def _bootstrap_interval(
    members: Side,
    non_members: Side,
    n_clusters: int,
    fpr: float,
    confidence: float,
    resamples: int,
    seed: int,
) -> tuple[float, float]:
    """Compute the percentile interval of the TPR over resamples of whole clusters."""
    # Highest score first. `above`: the number of members that score above each non-member.
    clusters_in, clusters_out = members.clusters[::-1], non_members.clusters[::-1]
    above = len(clusters_in) - np.searchsorted(members.scores, non_members.scores[::-1], "right")

    def rate(weights: Weights) -> NDArray[np.float64]:
        passed = weights.take(clusters_out, axis=1).cumsum(axis=1)
        allowed = np.floor(fpr * passed[:, -1] + 1e-9)
        cut = np.minimum((passed <= allowed[:, None]).sum(axis=1), len(above) - 1)
        found = np.zeros((len(weights), len(clusters_in) + 1))
        np.cumsum(weights.take(clusters_in, axis=1), axis=1, out=found[:, 1:])
        true_positives = np.take_along_axis(found, above[cut][:, None], axis=1)[:, 0]
        with np.errstate(invalid="ignore"):  # 0 / 0: a resample without members
            tpr = true_positives / found[:, -1]
        return np.where(passed[:, -1] > 0, tpr, np.nan)

    n_scores = len(clusters_in) + len(clusters_out)
    resampled = cluster_bootstrap(rate, n_clusters, n_scores, resamples, seed)
    low, high = percentile(resampled, n_clusters, confidence) if len(resampled) else (0.0, 1.0)
    # No resample shows what never happened: the exact bounds for none, or all, of the examples do.
    examples = len(np.unique(members.clusters))
    if high == 0:
        high = clopper_pearson(0, examples, confidence)[1]
    if low == 1:
        low = clopper_pearson(examples, examples, confidence)[0]
    return low, high
