"""ROC curve, and true-positive rate and positive predictive value at a low false-positive rate."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri
from scipy.stats import binom, multivariate_normal, rankdata

from tckr.metrics.estimate import (
    FEWEST_FALSE_POSITIVES,
    PpvEstimate,
    Side,
    TprEstimate,
    clopper_pearson,
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


# False-positive rates at which a curve is drawn: close together where leaks show, and coarse enough to say nothing of one image.
ROC_GRID = (
    *(0.001, 0.002, 0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.03),
    *(step / 20 for step in range(1, 21)),
)


def coarse_roc(
    scores: ArrayLike, is_member: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the ROC curve at those rates of `ROC_GRID` that are large enough to be measured.

    Args:
        scores: (N,), larger = more likely a member.
        is_member: bool (N,).

    Returns:
        False- and true-positive rates, up to (1, 1). Between the points of `roc` the curve is straight; a rate that fewer than
        ten of the non-members make up is left out, as in `tpr_at_fpr`.

    Raises:
        UserError: NaN scores, or members or non-members missing.

    >>> inside = np.arange(400) < 200
    >>> fpr, tpr = coarse_roc(np.arange(400) % 200, inside)
    >>> fpr[:3].tolist(), tpr[:3].round(3).tolist(), float(tpr[-1])
    ([0.05, 0.1, 0.15], [0.05, 0.1, 0.15], 1.0)
    """
    fpr, tpr = roc(scores, is_member)
    non_members = int((~np.asarray(is_member, bool)).sum())
    grid = np.array(ROC_GRID)
    grid = grid[(grid * non_members >= FEWEST_FALSE_POSITIVES) | (grid == 1)]
    return grid, np.interp(grid, fpr, tpr)


def tpr_at_fpr(
    scores: ArrayLike,
    is_member: ArrayLike,
    fpr: float,
    confidence: float = 0.95,
    clusters: ArrayLike | None = None,
) -> TprEstimate:
    """Estimate the true-positive rate at the threshold that at most `fpr` of the non-members exceed.

    The threshold never lets more through: ties are rejected together, and nothing is interpolated.
    The interval is for the rate at a true false-positive rate of `fpr`, so it allows for the chance
    in the threshold as well as in the members. Without `clusters`, order statistics of the
    non-members bracket the threshold, Clopper-Pearson bounds the rate at either end, and a quarter
    of the error goes to each of the four statements (union bound). With them it is
    the same of as many independent scores as those of the clusters are worth. Either covers the
    truth more often than it states.

    `measurable` requires ten expected false positives, and with `clusters` that they are worth ten
    independent ones: ten scores of one example that agree are one event.

    Args:
        scores: (N,), larger = more likely a member.
        is_member: bool (N,).
        fpr: in (0, 1).
        confidence: of the interval, in (0, 1).
        clusters: int (N,), the example behind each score if some have several (over shadows).

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
        (members, _), (non_members, clusters_out), n_clusters = sides
        worth = worth_of(non_members, clusters_out, fpr)
        low, high = _between_clustered(sides[0], sides[1], fpr, confidence, worth)
        method = "Clopper-Pearson between order statistics, of as many scores as those of clusters are worth"
    m, n = len(members), len(non_members)
    cut = non_members[-1 - math.floor(fpr * n + 1e-9)]
    true_positives, false_positives = (int((side > cut).sum()) for side in (members, non_members))
    value = true_positives / m
    low, high = min(low, value), max(high, value)
    measurable = fpr * n >= FEWEST_FALSE_POSITIVES - 1e-9
    if clusters is not None:
        measurable = measurable and worth >= FEWEST_FALSE_POSITIVES
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


def _between_clustered(
    members: Side, non_members: Side, fpr: float, confidence: float, worth: float
) -> tuple[float, float]:
    """Compute the interval as without clusters, from the independent scores that those of clusters are worth.

    Args:
        members: of the attack, scores ascending.
        non_members: likewise.
        fpr: in (0, 1).
        confidence: of the interval.
        worth: independent false positives at that rate.
    """
    error = (1 - confidence) / 4
    n, descending = len(non_members.scores), non_members.scores[::-1]
    effective = max(worth / fpr, 1.0)
    # The order statistics of so many independent non-members, as shares of those that there are.
    strict = binom.ppf(error, round(effective), fpr) / effective
    loose = (binom.ppf(1 - error, round(effective), fpr) + 1) / effective
    low, high = 0.0, 1.0
    if (place := math.floor(strict * n)) > 0:
        low = _of_clusters(members.scores >= descending[place - 1], members.clusters, error)[0]
    if (place := math.ceil(loose * n)) <= n:
        high = _of_clusters(members.scores >= descending[place - 1], members.clusters, error)[1]
    return low, high


def _of_clusters(
    called: NDArray[np.bool_], clusters: NDArray[np.intp], error: float
) -> tuple[float, float]:
    """Compute the Clopper-Pearson interval of a share, `error` on either side, of the trials that clusters are worth."""
    share = float(called.mean())
    variance = float((np.bincount(clusters, called - share) ** 2).sum()) / len(called) ** 2
    trials = len(np.unique(clusters)) if variance == 0 else share * (1 - share) / variance
    trials = max(1, round(min(trials, len(called))))
    hits = share * trials
    return (
        clopper_pearson(math.floor(hits + 1e-9), trials, 1 - 2 * error)[0],
        clopper_pearson(math.ceil(hits - 1e-9), trials, 1 - 2 * error)[1],
    )


def worth_of(scores: NDArray[np.float64], clusters: NDArray[np.intp], fpr: float) -> float:
    """Return how many independent false positives those of the clusters are expected to be worth at a rate of `fpr`.

    By the design and by how much the scores of a cluster agree over all of their range, not by those that happen to lie above
    the threshold: whoever looks at these keeps draws whose threshold is low. With normal scores of intraclass correlation r,
    two of one cluster exceed a threshold together with probability P2 = P[Z1 > z, Z2 > z], and n scores are worth
    n / (1 + (size - 1) (P2 - fpr^2) / (fpr - fpr^2)) independent ones (Kish's design effect).
    """
    count = np.bincount(clusters)
    count = count[count > 0]
    size = float((count**2).sum() / count.sum())
    if size <= 1:
        return fpr * len(scores)
    normal = ndtri((rankdata(scores) - 0.5) / len(scores))
    _, numbers = np.unique(clusters, return_inverse=True)
    means = np.bincount(numbers, normal) / count
    within = float(((normal - means[numbers]) ** 2).sum()) / max(len(scores) - len(count), 1)
    between = float((count * (means - normal.mean()) ** 2).sum()) / (len(count) - 1)
    # Analysis of variance: E[between] = sigma^2 (1 + (size - 1) r), E[within] = sigma^2 (1 - r). Scores that are all equal, as
    # of a teacher that was not trained, agree.
    total = between + (size - 1) * within
    agreement = min(max((between - within) / total, 0.0) if total else 1.0, 1 - 1e-6)
    z = ndtri(fpr)
    both = float(multivariate_normal.cdf([z, z], cov=[[1, agreement], [agreement, 1]]))
    return fpr * len(scores) / (1 + (size - 1) * max(both - fpr**2, 0) / (fpr - fpr**2))
