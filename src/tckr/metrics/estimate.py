"""Estimates with their intervals, and what all statistics share: checked inputs, exact and bootstrap intervals."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit
from scipy.stats import beta

from tckr.errors import UserError

# A rate at which fewer false positives are expected is reported as not measurable.
FEWEST_FALSE_POSITIVES = 10

# Bootstrap weights of this many scores are held in memory at once, whatever the number of resamples.
BLOCK = 1 << 20

Weights = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value and its confidence interval.

    Attributes:
        value: point estimate.
        low: lower end of the interval.
        high: upper end.
        confidence: probability, in (0, 1), with which such an interval covers the true value.
        method: how the interval was computed.

    >>> Estimate(0.6, 0.55, 0.65, 0.95, "an example").to_dict()["low"]
    0.55
    """

    value: float
    low: float
    high: float
    confidence: float
    method: str

    def to_dict(self) -> dict[str, float | int | bool | str | None]:
        """Return the fields for JSON, in which a value that is not finite is None."""
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self).items()
        }


@dataclass(frozen=True)
class AucEstimate(Estimate):
    """Area under the ROC curve in [0, 1]; 0.5 = no leak.

    Attributes:
        n_members: scores of members.
        n_non_members: scores of non-members.
        n_clusters: examples behind the scores if some have several, else None.
    """

    n_members: int
    n_non_members: int
    n_clusters: int | None = None


@dataclass(frozen=True, kw_only=True)
class RateEstimate(Estimate):
    """A rate in [0, 1], read at a false-positive rate.

    Attributes:
        fpr: nominal false-positive rate, in (0, 1).
        n_non_members: scores of non-members.
        n_clusters: examples behind the scores if some have several, else None.
        measurable: False if too few non-members stand behind the rate.
    """

    fpr: float
    n_non_members: int
    n_clusters: int | None = None
    measurable: bool

    @property
    def note(self) -> str:
        """Say why the rate cannot be measured; empty if it can."""
        if self.measurable:
            return ""
        source = "" if self.n_clusters is None else f" of {self.n_clusters:,} examples"
        return f"not measurable with {self.n_non_members:,} non-members{source}"

    def to_dict(self) -> dict[str, float | int | bool | str | None]:
        """Return the fields for JSON; value and interval are None if not measurable."""
        blank = {} if self.measurable else {"value": None, "low": None, "high": None}
        return {**super().to_dict(), **blank, "note": self.note}


@dataclass(frozen=True, kw_only=True)
class TprEstimate(RateEstimate):
    """True-positive rate at a false-positive rate, in [0, 1].

    Attributes:
        realised_fpr: false-positive rate of the threshold behind `value`, at most `fpr`.
        false_positives: non-members above that threshold.
        true_positives: members above it.
        n_members: scores of members.
    """

    realised_fpr: float
    false_positives: int
    true_positives: int
    n_members: int


@dataclass(frozen=True, kw_only=True)
class PpvEstimate(RateEstimate):
    """Positive predictive value, in [0, 1]: the share of true members among those called members.

    Attributes:
        prior: share of members among all examples, in (0, 1).
    """

    prior: float


def clopper_pearson(events: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Compute the exact two-sided interval of a probability (Clopper & Pearson, Biometrika 1934).

    Args:
        events: 0 to `trials`.
        trials: at least 1.
        confidence: in (0, 1).

    >>> low, high = clopper_pearson(0, 100)
    >>> low, round(high, 3)
    (0.0, 0.036)
    """
    # The ends are the quantiles (1 -+ confidence) / 2 of Beta(k, n - k + 1) and Beta(k + 1, n - k).
    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, events, trials - events + 1)) if events > 0 else 0.0
    high = float(beta.ppf(1 - tail, events + 1, trials - events)) if events < trials else 1.0
    return low, high


class Side(NamedTuple):
    """Scores of the members or of the non-members, ascending, and the cluster of each, from 0."""

    scores: NDArray[np.float64]
    clusters: NDArray[np.intp]


def split(
    scores: ArrayLike, is_member: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Split the scores into those of the members and those of the non-members, in the order given.

    Args:
        scores: (N,).
        is_member: bool (N,).

    Raises:
        UserError: shapes that differ, NaN scores, or members or non-members missing.
    """
    values, member = check_scores(scores, is_member)
    return values[member], values[~member]


def split_clusters(
    scores: ArrayLike, is_member: ArrayLike, clusters: ArrayLike
) -> tuple[Side, Side, int]:
    """Split scores with several per example into those of members and of non-members.

    Args:
        scores: (N,).
        is_member: bool (N,).
        clusters: int (N,), the example behind each score.

    Returns:
        Members, non-members, and the number of clusters.

    Raises:
        UserError: as `split`; clusters that do not fit, or fewer than two.
    """
    values, member = check_scores(scores, is_member)
    examples = np.asarray(clusters)
    if examples.shape != values.shape or not np.issubdtype(examples.dtype, np.integer):
        raise UserError(
            f"Clusters {examples.shape} of type {examples.dtype} do not fit scores {values.shape}.",
            "give one whole number per score: the example it belongs to.",
        )
    distinct, numbers = np.unique(examples, return_inverse=True)
    if len(distinct) < 2:
        raise UserError(
            "All scores are of one example, which says nothing about the others.",
            "give the scores of several examples.",
        )
    order = np.argsort(values, kind="stable")
    members, non_members = order[member[order]], order[~member[order]]
    return (
        Side(values[members], numbers[members]),
        Side(values[non_members], numbers[non_members]),
        len(distinct),
    )


def check_scores(
    scores: ArrayLike, is_member: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return scores float64 (N,) and membership bool (N,); raises as `split`."""
    values, member = np.asarray(scores, dtype=np.float64), np.asarray(is_member, dtype=bool)
    if values.shape != member.shape or values.ndim != 1:
        raise UserError(
            f"Scores {values.shape} and membership {member.shape} do not fit.",
            "give one score and one flag per example.",
        )
    if np.isnan(values).any():
        raise UserError("A score is NaN.", "check the attack: NaN cannot be ranked.")
    if member.all() or not member.any():
        raise UserError(
            f"There are {member.sum()} members and {(~member).sum()} non-members.",
            "give both: the holdout provides the non-members.",
        )
    return values, member


def cluster_bootstrap(
    statistic: Callable[[Weights], NDArray[np.float64]],
    n_clusters: int,
    n_scores: int,
    resamples: int,
    seed: int,
) -> NDArray[np.float64]:
    """Compute the statistic on resamples of whole clusters.

    Args:
        statistic: maps weights float64 (rows, n_clusters), how often each resample holds each
            cluster, to (rows,); NaN = not defined.
        n_clusters: clusters, and draws per resample.
        n_scores: in all; limits the rows passed at once, and with them the memory.
        resamples: B.
        seed: of the draws.

    Returns:
        float64 (at most B,); resamples on which the statistic is not defined are left out.
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


def on_logit_scale(value: float, error: float, quantile: float) -> tuple[float, float]:
    """Compute a symmetric interval on the logit scale and map it back to (0, 1).

    Args:
        value: in (0, 1); so are the ends.
        error: standard error of the value, > 0.
        quantile: of the standardized estimate, for instance 1.96.
    """
    # Delta method: the standard error of logit(v) is that of v over v (1 - v).
    width = quantile * error / (value * (1 - value))
    low, high = expit(logit(value) + np.array([-width, width]))
    return float(low), float(high)
