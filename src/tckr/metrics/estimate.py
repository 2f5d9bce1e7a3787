"""A figure with its interval, and the exact interval of a count."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit
from scipy.stats import beta, norm, t

from tckr.errors import UserError

# A rate of which fewer events are expected is not printed as if it were measured.
FEWEST_FALSE_POSITIVES = 10


@dataclass(frozen=True)
class Estimate:
    """A figure, the interval that holds it with the stated confidence, and how that was made."""

    value: float
    low: float
    high: float
    confidence: float
    method: str

    def to_dict(self) -> dict[str, float | int | bool | str | None]:
        """As JSON takes it: a figure that is not finite becomes None."""
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self).items()
        }


@dataclass(frozen=True)
class AucEstimate(Estimate):
    """Area under the ROC curve in [0, 1]; 0.5 = no leak.

    `n_clusters`: examples behind the scores where one has several, else None.
    """

    n_members: int
    n_non_members: int
    n_clusters: int | None = None


@dataclass(frozen=True, kw_only=True)
class RateEstimate(Estimate):
    """A figure read at a false-positive rate, in [0, 1].

    Where `measurable` is False, too few non-members stand behind the figure to read it.
    `n_clusters`: examples behind the scores where one has several, else None.
    """

    fpr: float
    n_non_members: int
    n_clusters: int | None = None
    measurable: bool

    @property
    def note(self) -> str:
        """One plain sentence where the rate cannot be measured, else nothing."""
        if self.measurable:
            return ""
        source = "" if self.n_clusters is None else f" of {self.n_clusters:,} examples"
        return f"not measurable with {self.n_non_members:,} non-members{source}"

    def to_dict(self) -> dict[str, float | int | bool | str | None]:
        """As JSON takes it; the figures of a rate that is not measurable are None."""
        blank = {} if self.measurable else {"value": None, "low": None, "high": None}
        return {**super().to_dict(), **blank, "note": self.note}


@dataclass(frozen=True, kw_only=True)
class TprEstimate(RateEstimate):
    """True-positive rate at a false-positive rate, in [0, 1].

    `realised_fpr`, `false_positives` and `true_positives` are those of the threshold behind
    `value`.
    """

    realised_fpr: float
    false_positives: int
    true_positives: int
    n_members: int


@dataclass(frozen=True, kw_only=True)
class PpvEstimate(RateEstimate):
    """Share of the true among those called members, in [0, 1], where `prior` of all are members."""

    prior: float


def clopper_pearson(events: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided exact interval of a probability (Clopper & Pearson, Biometrika 1934)."""
    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, events, trials - events + 1)) if events > 0 else 0.0
    high = float(beta.ppf(1 - tail, events + 1, trials - events)) if events < trials else 1.0
    return low, high


class Side(NamedTuple):
    """Scores of one side in ascending order, and the cluster of each, numbered from 0."""

    scores: NDArray[np.float64]
    clusters: NDArray[np.intp]


def split(
    scores: ArrayLike, is_member: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores of the members and of the non-members, in the order given.

    Raises:
        UserError: shapes that differ, NaN scores, or members or non-members missing.
    """
    values, inside = checked(scores, is_member)
    return values[inside], values[~inside]


def split_clusters(
    scores: ArrayLike, is_member: ArrayLike, clusters: ArrayLike
) -> tuple[Side, Side, int]:
    """As `split`, sorted, with the cluster of each score; and the number of clusters.

    Raises:
        UserError: as `split`; clusters that do not fit, or fewer than two.
    """
    values, inside = checked(scores, is_member)
    names = np.asarray(clusters)
    if names.shape != values.shape or not np.issubdtype(names.dtype, np.integer):
        raise UserError(
            f"Clusters {names.shape} of type {names.dtype} do not fit scores {values.shape}.",
            "give one whole number a score: the example it belongs to.",
        )
    distinct, numbers = np.unique(names, return_inverse=True)
    if len(distinct) < 2:
        raise UserError(
            "All scores are of one example, which says nothing about the others.",
            "give the scores of several examples.",
        )
    order = np.argsort(values, kind="stable")
    members, others = order[inside[order]], order[~inside[order]]
    return (
        Side(values[members], numbers[members]),
        Side(values[others], numbers[others]),
        len(distinct),
    )


def checked(
    scores: ArrayLike, is_member: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores float64 (N,) and membership bool (N,); raises as `split`."""
    values, inside = np.asarray(scores, dtype=np.float64), np.asarray(is_member, dtype=bool)
    if values.shape != inside.shape or values.ndim != 1:
        raise UserError(
            f"Scores {values.shape} and membership {inside.shape} do not fit.",
            "give one score and one flag an example.",
        )
    if np.isnan(values).any():
        raise UserError("A score is NaN.", "check the attack: NaN has no place in a ranking.")
    if inside.all() or not inside.any():
        raise UserError(
            f"There are {inside.sum()} members and {(~inside).sum()} non-members.",
            "give both: the holdout provides the non-members.",
        )
    return values, inside


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
