"""What one attack found: figures, each with its interval and how that was computed.

All are frozen and refuse unknown fields. A figure that is infinite, NaN or not measurable is None.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

if TYPE_CHECKING:
    from tckr.metrics import Estimate


class Result(BaseModel):
    """Base of every result: frozen, no unknown fields, and None for a number that is not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    @field_validator("*", mode="before")
    @classmethod
    def _finite_or_none(cls, value: Any) -> Any:
        return None if isinstance(value, float) and not math.isfinite(value) else value


class Interval(Result):
    """A figure, the interval that contains it with the stated confidence, and how that was computed.

    >>> from tckr.metrics import Estimate
    >>> Interval.of(Estimate(1.5, 1.5, float("inf"), 0.95, "one-sided")).high is None
    True
    """

    value: float | None = Field(description="the figure; None if it is not measurable")
    low: float | None = Field(description="lower end of the interval; None if not measurable")
    high: float | None = Field(description="upper end; None if not measurable or unbounded")
    confidence: float = Field(description="probability with which the interval covers the truth")
    method: str = Field(description="how the interval was computed, in words")

    @classmethod
    def of(cls, estimate: "Estimate", **fields: Any) -> Self:
        """Convert an estimate of `tckr.metrics`; `fields` are those that it does not have."""
        return cls.model_validate({**estimate.to_dict(), **fields})


class Auc(Interval):
    """Area under the ROC curve of an attack: how often it ranks a member above a non-member; 0.5 is no leak."""

    value: float = Field(description="the AUC, in [0, 1]")
    low: float = Field(description="lower end of the interval, in [0, 1]")
    high: float = Field(description="upper end of the interval, in [0, 1]")
    n_members: int = Field(description="scores of members")
    n_non_members: int = Field(description="scores of non-members")
    n_clusters: int | None = Field(
        description="examples, or people, behind the scores if one has several, else None"
    )


class Rate(Interval):
    """A figure read at a fixed false-positive rate, in [0, 1]."""

    fpr: float = Field(description="nominal false-positive rate")
    n_non_members: int = Field(description="scores of non-members")
    n_clusters: int | None = Field(
        description="examples, or people, behind the scores if one has several, else None"
    )
    measurable: bool = Field(
        description="False if there are too few non-members for this rate; then the figures are None"
    )
    note: str = Field(description="a sentence that says why it is not measurable, else empty")


class Ppv(Rate):
    """Positive predictive value: of the examples that the attack calls members, the share that are."""

    prior: float = Field(description="share of members among the queried examples")


class Tpr(Rate):
    """True-positive rate: the share of the members that the attack finds at a false-positive rate."""

    n_members: int = Field(description="scores of members")
    realised_fpr: float = Field(description="false-positive rate of the threshold behind the value")
    false_positives: int = Field(description="non-members above that threshold")
    true_positives: int = Field(description="members above that threshold")
    ppv: tuple[Ppv, ...] = Field(description="precision at this rate, one entry per prior")

    @property
    def name(self) -> str:
        """Return the name that MLflow and the tables use, such as `TPR_at_1pct_FPR`."""
        return f"TPR_at_{100 * self.fpr:g}pct_FPR"


class Epsilon(Interval):
    """Lower bound of epsilon: no smaller one can hold for this training, together with `delta`."""

    value: float = Field(description="the bound; equals `low`, and `high` is None")
    low: float = Field(description="the bound, one-sided")
    delta: float = Field(description="delta of the (epsilon, delta) guarantee that is tested")


class Separation(Result):
    """How often one cut tells members from non-members, counted on the half of the scores that did not choose it."""

    hits: int = Field(description="scores beyond the cut on the side that the test is for")
    of: int = Field(description="scores on that side")
    false: int = Field(description="scores beyond the cut on the other side")
    among: int = Field(description="scores on the other side")
    finds_members: bool = Field(description="whether the test is for members or non-members")
    above: bool = Field(description="whether beyond is at or above the cut, or below it")


class AttackResult(Result):
    """The figures of one attack on one released thing."""

    name: str = Field(description="the attack, as the configuration or `ThreatAudit` names it")
    label: str = Field(description="the attack in words, as the report prints it")
    auc: Auc = Field(description="area under the ROC curve")
    covers_half: bool = Field(
        description="True if the interval of the AUC covers 0.5, which is no proof that nothing leaks"
    )
    tprs: tuple[Tpr, ...] = Field(
        min_length=1,
        description="true-positive rate at each false-positive rate of the options; the first is the headline",
    )
    epsilon: Epsilon | None = Field(
        description="lower bound of epsilon; None where one example has several scores, or one "
        "person several examples, which are not independent, and of an attack that reads who is a member (qmia)"
    )
    aop: Interval | None = Field(
        default=None,
        description="accuracy over privacy, accuracy in percent; None if the thing is not a classifier",
    )

    separation: Separation | None = Field(
        default=None,
        description="the best cut; None where there is no `epsilon`, and in a file of version 3",
    )

    @model_validator(mode="before")
    @classmethod
    def _of_version_4(cls, given: Any) -> Any:
        if isinstance(given, dict) and "no_leak" in given:
            return {("covers_half" if k == "no_leak" else k): v for k, v in given.items()}
        return given

    @property
    def tpr(self) -> Tpr:
        """Return the headline true-positive rate."""
        return self.tprs[0]

    def in_percent(self, tprs: Sequence[Tpr] | None = None) -> dict[str, float | None]:
        """Return the figures under the names that MLflow and the tables use.

        Args:
            tprs: true-positive rates to list; by default only the headline.

        Returns:
            `AUC_MIA`, if there is one `AOP`, and `TPR_at_<x>pct_FPR`, each also with `_low` and `_high`. Rates are in
            percent; None if not measurable.
        """
        estimates: dict[str, tuple[Interval, float]] = {"AUC_MIA": (self.auc, 100)}
        if self.aop is not None:
            estimates["AOP"] = (self.aop, 1)
        for tpr in tprs or self.tprs[:1]:
            estimates[tpr.name] = (tpr, 100)
        percent: dict[str, float | None] = {}
        for name, (interval, scale) in estimates.items():
            parts = {"": interval.value, "_low": interval.low, "_high": interval.high}
            percent |= {
                f"{name}{suffix}": None if value is None else scale * value
                for suffix, value in parts.items()
            }
        return percent


class Roc(Result):
    """ROC curve of an attack at `tckr.metrics.ROC_GRID`, which is coarser than the images are many."""

    fpr: tuple[float, ...] = Field(min_length=1, description="false-positive rates, ascending to 1")
    tpr: tuple[float, ...] = Field(description="true-positive rate at each")


class Group(Result):
    """The primary attack in some of the images, chosen without a look at the target's scores."""

    kind: Literal["exposed", "class"] = Field(
        description="the images that the shadows call most exposed, or those of a class"
    )
    name: str = Field(description="in words")
    images: int = Field(description="members and others in it")
    auc: Auc = Field(description="area under the ROC curve within the group")
    fpr: float = Field(description="false-positive rate, among all images, of the threshold below")
    found: Interval | None = Field(
        description="share of its members above that threshold; None where people have several images"
    )
    false_alarms: Interval | None = Field(description="share of its non-members above it")
