"""Statistics of an attack as pure functions: each is an estimate with its interval.

`scores` are float (N,), larger = more likely a member; `is_member` bool (N,). Intervals hold for
examples drawn independently of one another.
"""

import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta, binom, norm, rankdata

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
    """Area under the ROC curve in [0, 1]; 0.5 = no leak."""

    n_members: int
    n_non_members: int


@dataclass(frozen=True)
class TprEstimate(Estimate):
    """True-positive rate at a false-positive rate, in [0, 1].

    `realised_fpr` and `false_positives` are those of the threshold behind `value`; where
    `measurable` is False, too few non-members stand behind the figure to read it.
    """

    fpr: float
    realised_fpr: float
    false_positives: int
    true_positives: int
    n_members: int
    n_non_members: int
    measurable: bool

    @property
    def note(self) -> str:
        """One plain sentence where the rate cannot be measured, else nothing."""
        if self.measurable:
            return ""
        return f"not measurable with {self.n_non_members:,} non-members"

    def to_dict(self) -> dict[str, float | int | bool | str | None]:
        """As JSON takes it; the figures of a rate that is not measurable are None."""
        blank = {} if self.measurable else {"value": None, "low": None, "high": None}
        return {**super().to_dict(), **blank, "note": self.note}


def clopper_pearson(events: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided exact interval of a probability (Clopper & Pearson, Biometrika 1934)."""
    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, events, trials - events + 1)) if events > 0 else 0.0
    high = float(beta.ppf(1 - tail, events + 1, trials - events)) if events < trials else 1.0
    return low, high


def auc(scores: ArrayLike, is_member: ArrayLike, confidence: float = 0.95) -> AucEstimate:
    """P[member scores higher] + P[tie] / 2, with the interval of DeLong et al. (Biometrics 1988).

    The interval is computed for the logit of the AUC, so that it stays inside (0, 1). Where every
    member scores above every non-member (or the reverse) DeLong's variance is 0; then the bound is
    the exact one for min(m, n) disjoint pairs, all of them won.

    Raises:
        UserError: NaN scores, or members or non-members missing.
    """
    inside, outside = _split(scores, is_member)
    m, n = len(inside), len(outside)
    everything = rankdata(np.concatenate([inside, outside]))
    # Placement values: share of the other side that each score beats, ties half.
    of_members = (everything[:m] - rankdata(inside)) / n
    of_others = 1 - (everything[m:] - rankdata(outside)) / m
    value = float(of_members.mean())
    variance = _variance(of_members) / m + _variance(of_others) / n
    if 0 < value < 1 and variance > 0:
        width = norm.ppf((1 + confidence) / 2) * math.sqrt(variance) / (value * (1 - value))
        centre = math.log(value / (1 - value))
        low, high = (1 / (1 + math.exp(-(centre + side * width))) for side in (-1, 1))
        method = "DeLong, logit scale"
    else:
        margin = 1 - ((1 - confidence) / 2) ** (1 / min(m, n))
        low, high = max(0.0, value - margin), min(1.0, value + margin)
        method = "exact bound from disjoint pairs"
    return AucEstimate(value, low, high, confidence, method, m, n)


def tpr_at_fpr(
    scores: ArrayLike, is_member: ArrayLike, fpr: float, confidence: float = 0.95
) -> TprEstimate:
    """True-positive rate at the threshold that lets at most `fpr` of the non-members through.

    The threshold never lets more through: ties are rejected together, and nothing is interpolated.
    The interval is for the rate at a true false-positive rate of `fpr`, so it allows for the chance
    in the threshold as well as in the members: order statistics of the non-members bracket the
    threshold, Clopper-Pearson bounds the rate at either end, and a quarter of the error goes to
    each of the four statements (union bound).

    Raises:
        UserError: NaN scores, or members or non-members missing.
        ValueError: `fpr` outside (0, 1).
    """
    if not 0 < fpr < 1:
        raise ValueError(f"fpr must lie in (0, 1), not {fpr}")
    inside, outside = _split(scores, is_member)
    m, n = len(inside), len(outside)
    descending = np.sort(outside)[::-1]
    allowed = math.floor(fpr * n + 1e-9)
    cut = descending[allowed]
    hits, false_positives = int((inside > cut).sum()), int((outside > cut).sum())

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
    return TprEstimate(
        value=hits / m,
        low=low,
        high=high,
        confidence=confidence,
        method="Clopper-Pearson between order statistics of the non-members",
        fpr=fpr,
        realised_fpr=false_positives / n,
        false_positives=false_positives,
        true_positives=hits,
        n_members=m,
        n_non_members=n,
        measurable=fpr * n >= FEWEST_FALSE_POSITIVES - 1e-9,
    )


def accuracy_over_privacy(accuracy_percent: float, auc_mia: float | Estimate) -> Estimate:
    """AOP = accuracy / max(2 AUC_MIA, 1)^2 (Lomurno et al., arXiv 2306.03054; lambda = 2 as TCKR).

    The interval is that of the AUC carried through the formula; the accuracy is taken as measured.

    Args:
        accuracy_percent: 0..100.
        auc_mia: in [0, 1]; an estimate gives the result its interval, a plain number none.

    Raises:
        ValueError: a figure out of range, for instance an AUC in percent.
    """
    if not isinstance(auc_mia, Estimate):
        auc_mia = Estimate(auc_mia, auc_mia, auc_mia, 1.0, "AUC taken as exact")
    if not 0 <= accuracy_percent <= 100 or not 0 <= auc_mia.value <= 1:
        raise ValueError(
            f"accuracy {accuracy_percent} must lie in 0..100 and AUC {auc_mia.value} in 0..1"
        )
    value, low, high = (
        accuracy_percent / max(2 * area, 1) ** 2
        for area in (auc_mia.value, auc_mia.high, auc_mia.low)
    )
    return Estimate(value, low, high, auc_mia.confidence, f"from the AUC: {auc_mia.method}")


def epsilon_lower_bound(
    scores: ArrayLike,
    is_member: ArrayLike,
    delta: float,
    confidence: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """A lower bound of epsilon for which (epsilon, delta) differential privacy can hold.

    Every test of an (epsilon, delta)-DP mechanism has TPR <= e^epsilon FPR + delta, and TNR <=
    e^epsilon FNR + delta (Kairouz et al., ICML 2015, theorem 2.1). A random half of the examples
    chooses threshold and direction; on the other half the two rates are bounded by one-sided
    Clopper-Pearson, each at half the error (union bound). So the bound holds at the stated
    confidence whatever the scores, for examples that are independent of one another; the scores of
    one single training run are so only approximately (Steinke et al., arXiv 2305.08846).

    Args:
        delta: of the guarantee, in [0, 1).
        confidence: of the bound, one-sided.
        seed: of the split.

    Returns:
        `value` = `low` = the bound, `high` infinite.

    Raises:
        UserError: NaN scores, or fewer than 2 members or non-members.
        ValueError: `delta` outside [0, 1).
    """
    if not 0 <= delta < 1:
        raise ValueError(f"delta must lie in [0, 1), not {delta}")
    sides = _split(scores, is_member)
    if min(map(len, sides)) < 2:
        raise UserError("An epsilon bound needs 2 members and 2 non-members.", "add examples.")
    random = np.random.default_rng(seed)
    inside, outside = (random.permutation(side) for side in sides)
    choose = inside[: len(inside) // 2], outside[: len(outside) // 2]
    test = inside[len(inside) // 2 :], outside[len(outside) // 2 :]
    cuts = np.unique(np.concatenate(choose))

    def bounds(
        pair: tuple[NDArray[np.float64], ...], at: NDArray[np.float64], flip: bool
    ) -> NDArray[np.float64]:
        counts = _exceeding(pair[::-1] if flip else pair, at, flip)
        return _epsilon(*counts, delta=delta, confidence=confidence)

    above, below = bounds(choose, cuts, False), bounds(choose, cuts, True)
    flip = bool(below.max() > above.max())
    best = cuts[[int(np.argmax(below if flip else above))]]
    bound = float(bounds(test, best, flip)[0])
    method = "threshold from one half, Clopper-Pearson on the other (Kairouz et al. 2015)"
    return Estimate(bound, bound, math.inf, confidence, method)


def roc(scores: ArrayLike, is_member: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False- and true-positive rates from (0, 0) to (1, 1), one point for each distinct score."""
    inside, outside = (np.sort(side) for side in _split(scores, is_member))
    cuts = np.unique(np.concatenate([inside, outside]))[::-1]
    rates = [1 - np.searchsorted(side, cuts, "left") / len(side) for side in (outside, inside)]
    return np.concatenate([[0.0], rates[0]]), np.concatenate([[0.0], rates[1]])


def _split(
    scores: ArrayLike, is_member: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
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
    return values[inside], values[~inside]


def _variance(values: NDArray[np.float64]) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else 0.0


def _exceeding(
    pair: tuple[NDArray[np.float64], ...], cuts: NDArray[np.float64], flip: bool
) -> tuple[NDArray[np.int64], int, NDArray[np.int64], int]:
    """Counts of (first, second) beyond each cut: at or above it, or below it if `flip`."""
    first, second = (np.searchsorted(np.sort(side), cuts, "left") for side in pair)
    m, n = len(pair[0]), len(pair[1])
    return (first, m, second, n) if flip else (m - first, m, n - second, n)


def _epsilon(
    hits: NDArray[np.int64],
    m: int,
    false: NDArray[np.int64],
    n: int,
    *,
    delta: float,
    confidence: float,
) -> NDArray[np.float64]:
    """ln((low of hits/m - delta) / high of false/n), at least 0, for each pair of counts."""
    error = (1 - confidence) / 2
    low = np.where(hits > 0, beta.ppf(error, np.maximum(hits, 1), m - hits + 1), 0.0)
    high = np.where(false < n, beta.ppf(1 - error, false + 1, np.maximum(n - false, 1)), 1.0)
    with np.errstate(divide="ignore"):
        return np.maximum(np.log(np.maximum(low - delta, 0) / high), 0.0)
