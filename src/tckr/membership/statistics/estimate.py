"""A figure with its interval, and the exact interval of a count."""

import math
from dataclasses import asdict, dataclass

from scipy.stats import beta

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
