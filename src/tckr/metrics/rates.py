"""True-positive rate and positive predictive value at a false-positive rate, and the whole ROC."""

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
    percentile,
    replicates,
    split,
    split_clusters,
)


def roc(scores: ArrayLike, is_member: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False- and true-positive rates from (0, 0) to (1, 1), one point for each distinct score."""
    inside, outside = (np.sort(side) for side in split(scores, is_member))
    cuts = np.unique(np.concatenate([inside, outside]))[::-1]
    rates = [1 - np.searchsorted(side, cuts, "left") / len(side) for side in (outside, inside)]
    return np.concatenate([[0.0], rates[0]]), np.concatenate([[0.0], rates[1]])


def tpr_at_fpr(
    scores: ArrayLike,
    is_member: ArrayLike,
    fpr: float,
    confidence: float = 0.95,
    clusters: ArrayLike | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> TprEstimate:
    """True-positive rate at the threshold that lets at most `fpr` of the non-members through.

    The threshold never lets more through: ties are rejected together, and nothing is interpolated.
    The interval is for the rate at a true false-positive rate of `fpr`, so it allows for the chance
    in the threshold as well as in the members. Without `clusters`, order statistics of the
    non-members bracket the threshold, Clopper-Pearson bounds the rate at either end, and a quarter
    of the error goes to each of the four statements (union bound). With them it is the percentile
    interval of a cluster bootstrap that finds the threshold anew in every draw; below some hundred
    examples it holds the truth a little less often than stated.

    `measurable` asks for ten expected false positives, and with `clusters` also for ten examples
    among the non-members at or above the threshold: ten scores of one example are one event.

    Args:
        scores: (N,), larger = more likely a member.
        is_member: bool (N,).
        fpr: in (0, 1).
        confidence: of the interval.
        clusters: int (N,), the example behind each score where one has several (over shadows).
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        UserError: NaN scores, or members or non-members missing; fewer than two clusters.
        ValueError: `fpr` outside (0, 1).
    """
    if not 0 < fpr < 1:
        raise ValueError(f"fpr must lie in (0, 1), not {fpr}")
    if clusters is None:
        inside, outside = (np.sort(side) for side in split(scores, is_member))
        low, high = _between_order_statistics(inside, outside, fpr, confidence)
        method = "Clopper-Pearson between order statistics of the non-members"
        n_clusters = None
    else:
        members, others, n_clusters = split_clusters(scores, is_member, clusters)
        inside, outside = members.scores, others.scores
        low, high = _resampled(members, others, n_clusters, fpr, confidence, resamples, seed)
        method = f"cluster bootstrap, percentile, {resamples:,} draws"
    m, n = len(inside), len(outside)
    cut = outside[-1 - math.floor(fpr * n + 1e-9)]
    hits, false_positives = (int((side > cut).sum()) for side in (inside, outside))
    low, high = min(low, hits / m), max(high, hits / m)  # ties can put a bootstrap beside its data
    measurable = fpr * n >= FEWEST_FALSE_POSITIVES - 1e-9
    if clusters is not None:
        sources = len(np.unique(others.clusters[outside >= cut]))
        measurable = measurable and sources >= FEWEST_FALSE_POSITIVES
    return TprEstimate(
        value=hits / m,
        low=low,
        high=high,
        confidence=confidence,
        method=method,
        fpr=fpr,
        realised_fpr=false_positives / n,
        false_positives=false_positives,
        true_positives=hits,
        n_members=m,
        n_non_members=n,
        n_clusters=n_clusters,
        measurable=measurable,
    )


def ppv(rate: TprEstimate, prior: float) -> PpvEstimate:
    """Positive predictive value: of those called members, the share that are.

    prior TPR / (prior TPR + (1 - prior) FPR), as Jayaraman et al. (PoPETs 2021, arXiv 2005.10881)
    ask where members are rare. Both rates are those that the threshold realised; the interval joins
    their Clopper-Pearson intervals, each at half the error (union bound). The scores of clusters
    are no independent trials: there the TPR has the interval of its bootstrap, which is for a true
    false-positive rate of `rate.fpr`, and that is the FPR taken.

    Args:
        rate: of the attack, at the false-positive rate that is of interest.
        prior: share of members among those asked about, in (0, 1).

    Returns:
        `value` is NaN where nothing at all is called a member.

    Raises:
        ValueError: `prior` outside (0, 1).
    """
    if not 0 < prior < 1:
        raise ValueError(f"prior must lie in (0, 1), not {prior}")

    def share(tpr: float, fpr: float) -> float:
        called = prior * tpr + (1 - prior) * fpr
        return prior * tpr / called if called > 0 else math.nan

    if rate.n_clusters is None:
        each = 1 - (1 - rate.confidence) / 2
        tpr = clopper_pearson(rate.true_positives, rate.n_members, each)
        fpr = clopper_pearson(rate.false_positives, rate.n_non_members, each)
        value = share(rate.value, rate.realised_fpr)
        method = "Clopper-Pearson of TPR and realised FPR, union bound"
    else:
        tpr, fpr = (rate.low, rate.high), (rate.fpr, rate.fpr)
        value = share(rate.value, rate.fpr)
        method = f"at the nominal FPR, from the TPR: {rate.method}"
    return PpvEstimate(
        value=value,
        low=share(tpr[0], fpr[1]),
        high=share(tpr[1], fpr[0]),
        confidence=rate.confidence,
        method=method,
        prior=prior,
        fpr=rate.fpr,
        n_non_members=rate.n_non_members,
        n_clusters=rate.n_clusters,
        measurable=rate.measurable,
    )


def _between_order_statistics(
    inside: NDArray[np.float64], outside: NDArray[np.float64], fpr: float, confidence: float
) -> tuple[float, float]:
    """Interval of the TPR at a true rate of `fpr`; scores ascending."""
    m, n = len(inside), len(outside)
    descending = outside[::-1]
    error = (1 - confidence) / 4
    # Above the j-th largest non-member lies a true rate below fpr if P[Bin(n, fpr) >= j] is high...
    strict = int(binom.ppf(error, n, fpr))
    low = 0.0
    if strict > 0:
        surely = int((inside > descending[strict - 1]).sum())
        low = clopper_pearson(surely, m, 1 - 2 * error)[0]
    # ...and above fpr if P[Bin(n, fpr) <= j - 1] is.
    loose = int(binom.ppf(1 - error, n, fpr)) + 1
    high = 1.0
    if loose <= n:
        perhaps = int((inside >= descending[loose - 1]).sum())
        high = clopper_pearson(perhaps, m, 1 - 2 * error)[1]
    return low, high


def _resampled(
    inside: Side,
    outside: Side,
    n_clusters: int,
    fpr: float,
    confidence: float,
    resamples: int,
    seed: int,
) -> tuple[float, float]:
    """Percentile interval over draws of whole clusters; scores of both sides ascending."""
    outside_down, inside_down = outside.clusters[::-1], inside.clusters[::-1]
    # So many members score above each non-member, from the highest non-member down.
    above = len(inside.scores) - np.searchsorted(inside.scores, outside.scores[::-1], "right")

    def rate(weights: Weights) -> NDArray[np.float64]:
        passed = weights.take(outside_down, axis=1).cumsum(axis=1)
        allowed = np.floor(fpr * passed[:, -1] + 1e-9)
        cut = np.minimum((passed <= allowed[:, None]).sum(axis=1), len(above) - 1)
        found = np.zeros((len(weights), len(inside_down) + 1))
        np.cumsum(weights.take(inside_down, axis=1), axis=1, out=found[:, 1:])
        hits = np.take_along_axis(found, above[cut][:, None], axis=1)[:, 0]
        with np.errstate(invalid="ignore"):  # 0 / 0: a draw without members
            share = hits / found[:, -1]
        return np.where(passed[:, -1] > 0, share, np.nan)

    n_scores = len(inside_down) + len(outside_down)
    drawn = replicates(rate, n_clusters, n_scores, resamples, seed)
    low, high = percentile(drawn, n_clusters, confidence) if len(drawn) else (0.0, 1.0)
    # No draw shows what never happened: the exact bounds for none, or all, of the examples do.
    examples = len(np.unique(inside.clusters))
    if high == 0:
        high = clopper_pearson(0, examples, confidence)[1]
    if low == 1:
        low = clopper_pearson(examples, examples, confidence)[0]
    return low, high
