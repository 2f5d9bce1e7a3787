"""The result types of an audit, from one figure with its interval up to the whole of `audit.json`.

All are frozen and refuse unknown fields. `Audit.model_dump(mode="json")` is the content of `audit.json`, and
`Audit.model_validate` reads it back to an equal object. A figure that is infinite, NaN or not measurable is None.

    Audit
      plan: Plan
      things: name -> ModelAudit (student, weights, released, teacher) or ThreatAudit (generator, joint, images, prompts)
        attacks: name -> AttackResult
          auc: Auc, tprs: Tpr (each with its Ppv), epsilon: Epsilon, aop: Interval
      extraction: Extraction, one per space and distance
      duplicated: DuplicatedCanaries, if any were planted
        things: name -> Exposure
      attribution: Attribution, if measured
      guarantee: Guarantee, if the arm has a ledger
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tckr.audit.options import Scope, Variance

if TYPE_CHECKING:
    from tckr.metrics import Estimate

# Of the layout of audit.json. 3 knew no separation and no guarantee, 4 neither the released set as an attacker uses it nor
# what an audit cannot measure, and called `covers_half` `no_leak`, 5 knew no extraction and no joint attacker; all are read.
VERSION: Literal[6] = 6


class Thing(NamedTuple):
    """Something that a release may contain, and the attacker that its audit assumes."""

    title: str
    attacker: str


# Every thing that an audit can attack, in the order of the report. An arm audits those that it releases.
THINGS: dict[str, Thing] = {
    "student": Thing(
        "Student (black box)",
        "The attacker can query the student for its class probabilities. They hold the candidate image and its class,"
        " and can repeat the whole training procedure on other images from the same distribution.",
    ),
    "weights": Thing(
        "Student (weights)",
        "The attacker holds the student's file and queries it as often as they like, with shifted and mirrored views of the"
        " candidate image too; all else as above. What reads weights and gradients themselves was not tried.",
    ),
    "released": Thing(
        "Recycled set as handed out (images and labels)",
        "The attacker holds the folder and nothing else. They train a network of their own on its images and labels, and"
        " query that with the candidate image and its class; they repeat the whole procedure, their own training included,"
        " on other images from the same distribution. This is the row of record for the release of the set.",
    ),
    "teacher": Thing(
        "Teacher, for reference",
        "The attacker can query the model that was trained on the private images themselves, with the same knowledge as"
        " against a student. The teacher is not released; this is what releasing it would give away.",
    ),
    "generator": Thing(
        "Generator (white box)",
        "The adapter is released. The attacker holds its weights, the base generator, and the candidate image with its"
        " caption, and measures how well the denoiser fits the image.",
    ),
    "joint": Thing(
        "Student, recycled set and adapter together",
        "The attacker holds everything at once: the student's file, the recycled set as handed out and, where shadows adapted"
        " a generator of their own, the adapter. They attack each as above and weigh the answers by what a logistic"
        " regression learnt on the shadows, whose training sets they know.",
    ),
    "images": Thing(
        "Images alone",
        "Only the synthetic images are released. The attacker compares the candidate image with the nearest of them,"
        " using a public image encoder and other images from the same distribution. There is no model to query. What that"
        " encoder cannot tell apart, the attack misses; the same in pixels stands below it.",
    ),
    "prompts": Thing(
        "Prompts alone",
        "The prompts are released, which are captions of the members unless they are bare class names. The attacker"
        " captions the candidate image with the same captioner and looks for that caption. By default the prompts are"
        " withheld (knowledge_recycling.release_prompts).",
    ),
}

# What differs where everything is made under one ledger.
PROVEN_THINGS: dict[str, Thing] = {
    "teacher": Thing(
        "Teacher (black box)",
        "The attacker can query the model that was trained on the private images themselves, under differential privacy,"
        " with the same knowledge as against a student. It is under the same guarantee as the student and may be released.",
    ),
    "prompts": Thing(
        "Prompts alone",
        "The prompts are released, which were made under differential privacy unless they are bare class names. The"
        " attacker captions the candidate image with the same captioner and looks for that caption. By default the"
        " prompts are withheld (knowledge_recycling.release_prompts).",
    ),
}


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


class ThingAudit(Result):
    """What the audit of every released thing states."""

    shows: Literal["both", "leaks", "nothing"] = Field(
        default="both",
        description="what the figures can show: a leak and, within the interval, its absence; a leak alone, since the attack"
        " is weak; or nothing, since the design fixes them",
    )
    limits: str = Field(default="", description="why they do not show both, a sentence; else empty")

    primary_attack: str = Field(
        description="the attack that was named before the run; its figures are the headline"
    )
    n_members: int = Field(description="members that were attacked")
    n_non_members: int = Field(description="holdout images that were attacked beside them")
    n_shadows: int = Field(description="shadow models behind the attacks; 0 if none were trained")
    attacks: dict[str, AttackResult] = Field(description="the result of every attack by its name")
    roc: Roc | None = Field(default=None, description="of the primary attack; None in older files")
    groups: tuple[Group, ...] = Field(
        default=(),
        description="the most exposed images, and every class; empty without shadows, and in older files",
    )

    @property
    def primary(self) -> AttackResult:
        """Return the result of the primary attack."""
        return self.attacks[self.primary_attack]

    def in_percent(
        self, attack: str | None = None, tprs: Sequence[Tpr] | None = None
    ) -> dict[str, float | None]:
        """Return the headline figures, or those of another attack; see `AttackResult.in_percent`.

        All are None where the figures show nothing: an AUC that the design fixes is no measurement.
        """
        figures = self.attacks[attack or self.primary_attack].in_percent(tprs)
        return dict.fromkeys(figures) if self.shows == "nothing" else figures

    @model_validator(mode="after")
    def _primary_is_there(self) -> Self:
        if self.primary_attack not in self.attacks:
            raise ValueError(f"the primary attack {self.primary_attack} is not among the attacks")
        return self


class Canaries(Result):
    """The attack on the mislabelled images alone, which a model can only know by memorizing them."""

    count: int = Field(description="canaries among members and holdout")
    members: int = Field(description="canaries among the members")
    attack: AttackResult = Field(description="the primary attack on the canaries")
    one_run: Epsilon | None = Field(
        description="lower bound of epsilon from guesses in one training run; None if a person has several canaries,"
        " or the primary attack reads who is a member"
    )
    over_shadows: AttackResult | None = Field(
        description="every shadow attacked with the others, pooled; None if there are too few shadows"
    )


class Transferred(Result):
    """What a threshold finds in the target that was set by the shadows alone, as an attacker has to set it."""

    fpr: float = Field(description="false-positive rate for which it was set")
    found: Interval = Field(description="share of the target's members above it")
    false_alarms: Interval = Field(description="share of its non-members above it")


class Recipe(Result):
    """The primary attack on every shadow in turn, with the others as its shadows: what the recipe leaks, run after run."""

    attack: AttackResult = Field(
        description="mean AUC and pooled rates; intervals for further runs and further images"
    )
    runs: tuple[float, ...] = Field(description="AUC of each run")
    between: float = Field(description="standard deviation of the AUC between runs")
    of_one: float = Field(
        description="standard error of one run's AUC by its images alone, to hold `between` against"
    )
    transferred: Transferred | None = Field(
        default=None,
        description="the headline rate at the shadows' threshold; None where people have several images, and of QMIA",
    )


class ModelAudit(ThingAudit):
    """The audit of a classifier through its outputs."""

    scope: Scope = Field(description="what each shadow repeated")
    scope_note: str = Field(
        description="the same in words, and what the attack therefore leaves out"
    )
    variance: Variance = Field(description="of LiRA: one for all examples, or one per example")
    queries: int = Field(description="views of each image with which the model was queried")
    membership_hash: str = Field(
        description="first 16 hexadecimal digits of the SHA-256 of the membership matrix"
    )
    shadow_training_images: float = Field(
        description="mean size of a shadow's training set, duplicated canaries aside"
    )
    accuracy: float | None = Field(
        description="of the model on the test split, in percent; None of one that an attacker trained"
    )
    canaries: Canaries | None = Field(
        description="figures of the mislabelled canaries; None without any"
    )
    recipe: Recipe | None = Field(
        default=None,
        description="every shadow attacked in turn; None with fewer than six, where the audit shows nothing, and in older files",
    )

    def with_accuracy(self) -> dict[str, float | None]:
        """Return accuracy and the headline figures; see `ThingAudit.in_percent`."""
        return {"accuracy": self.accuracy, **self.in_percent()}


class ThreatAudit(ThingAudit):
    """The audit of a thing that is not a classifier."""

    assumes: str = Field(description="what is released and what the attacker holds, in words")


class Extraction(Result):
    """Members that something released lies nearer to than to all but a few of the holdout; see `tckr.metrics.extraction`.

    Counts are of people where some have several images.
    """

    space: Literal["pixels", "encoder"] = Field(
        description="in which distances were measured: pixels within the class, or features of the encoder; relative to the"
        " nearest of other images"
    )
    share: float = Field(
        description="of the holdout that may lie as near, fixed before the run; 0: none"
    )
    near_members: int = Field(description="members within the distance")
    n_members: int = Field(description="members")
    near_holdout: int = Field(description="holdout images within it")
    n_holdout: int = Field(description="holdout images")
    chance: float = Field(description="members within it that are expected if none is reproduced")
    p_value: float = Field(
        description="probability of as many members or more, if none is reproduced"
    )
    at_least: int = Field(
        description="reproduced members, lower end of the one-sided interval; 0: none shown"
    )
    needed: int = Field(description="members within it from which `at_least` is positive")
    confidence: float = Field(description="with which the bounds of all spaces and shares hold")
    released_of_members: int = Field(
        description="released images that are the nearest of those members"
    )
    released_of_holdout: int = Field(
        description="released images that are the nearest of those holdout images"
    )


class Exposure(Result):
    """The primary attack on one released thing, on the duplicated canaries alone."""

    attack: AttackResult = Field(
        description="canaries of the members against non-members; no epsilon, since each is several images"
    )
    over_shadows: AttackResult | None = Field(
        default=None,
        description="every shadow attacked with the others, pooled; None if there are too few shadows, or none",
    )


class DuplicatedCanaries(Result):
    """What comes out of images that were trained on many times with their right label; each picture counts once.

    They are in no other figure of the audit, mislabelled ones (`Canaries`) are.
    """

    members: int = Field(description="canaries among the members")
    holdout: int = Field(description="canaries among the holdout, planted alike in shadows alone")
    copies: int = Field(description="images of each canary")
    things: dict[str, Exposure] = Field(
        description="by the names in `THINGS`; what an audit cannot show is absent. Classifiers, and a generator with shadow"
        " adapters, against the canaries of the holdout; everything else against the whole holdout"
    )
    extraction: tuple[Extraction, ...] = Field(
        default=(),
        description="canaries that the released images reproduce, against the whole holdout",
    )


class ChannelShare(Result):
    """What one channel adds to the student's leak."""

    channel: str = Field(description="soft labels, adapter, captions, or all of them")
    share: float = Field(description="Shapley value of the channel, in units of AUC")
    low: float = Field(description="lower end of the interval of the share")
    high: float = Field(description="upper end of the interval of the share")
    alone: float = Field(description="leak of the student with this channel only")
    without: float | None = Field(
        description="leak of the student with all channels less that without this one; None for all of them"
    )


class StudentLeak(Result):
    """The leak of a student with some of the channels open."""

    student: str = Field(description="names of its open channels, or `nothing`")
    opened: tuple[str, ...] = Field(description="the channels that are open for it")
    auc: float = Field(description="AUC of the attack on this student")
    leak: float = Field(description="AUC - 1/2")
    low: float = Field(description="lower end of the interval of the leak")
    high: float = Field(description="upper end of the interval of the leak")


class Attribution(Result):
    """How much of the student's leak enters through each channel."""

    n_shadows: int = Field(description="shadows that trained every one of the students")
    attack: str | None = Field(
        default=None, description="the attack on each student; None in files before version 5"
    )
    students: tuple[StudentLeak, ...] = Field(description="one entry per combination of channels")
    channels: tuple[ChannelShare, ...] = Field(
        description="one per channel; the last is all of them"
    )


class Plan(Result):
    """The number of shadows and the time that they were expected to take, decided before the audit."""

    n_shadows: int = Field(description="shadow groups that fit into the time budget")
    requested: int = Field(description="shadow groups that the configuration names")
    seconds_per_group: float = Field(description="of the probe, scaled to a whole group")
    minutes: float = Field(description="estimate for all groups")
    workers: int = Field(description="processes that work side by side")
    fingerprint: str | None = Field(
        default=None, description="of the shadows' work, which names the folder of its checkpoints"
    )


class Charge(Result):
    """A mechanism of the ledger as the report prints it: without the hash of the private images."""

    name: str = Field(description="what it makes, unique in the ledger")
    mechanism: str = Field(description="the kind of noise")
    noise_multiplier: float = Field(description="scale of the noise / sensitivity")
    sampling_rate: float = Field(description="probability with which an image enters a step")
    steps: int = Field(description="noisy answers")
    sensitivity: float = Field(description="largest L2 change of an answer by one image")
    why: str = Field(description="why one image cannot change an answer by more")
    share: float = Field(description="of the sum of mu^2, each alone, in [0, 1]")
    spent: str | None = Field(description="when it was run, ISO 8601; None: planned only")


class Declared(Result):
    """Something that is not charged, and why."""

    what: str = Field(description="such as early stopping")
    how: Literal["public", "absent", "uncharged"] = Field(
        description="known without the images, not used, or taken without noise: then nothing is proven"
    )
    why: str = Field(description="the reason")


class TprBound(Result):
    """Largest true-positive rate that any test can have at a false-positive rate."""

    fpr: float = Field(description="false-positive rate")
    tpr: float = Field(description="for one image added or removed")
    tpr_of_two: float = Field(description="for two changes, as in the audit's comparison")


class Compared(Result):
    """What one attack measured beside what is proven, at the rates of its best cut.

    Rates compare with the trade-off curve itself; as epsilons (of the Gaussian mechanism whose curve passes through the
    point, at the ledger's delta) they are the same comparison in one number.
    """

    thing: str = Field(description="its name in `THINGS`")
    attack: str = Field(description="its name; canaries are attacked alone")
    fpr: float = Field(description="upper end of the false-positive rate")
    tpr: float = Field(description="lower end of the true-positive rate")
    bound: float = Field(description="largest true-positive rate at `fpr`, for one image")
    bound_of_two: float = Field(description="the same for two changes")
    epsilon: float = Field(description="measured: at least this")
    epsilon_bound: float | None = Field(description="proven for one image: at most; None: more")
    epsilon_bound_of_two: float | None = Field(description="proven for two changes; None: more")
    changes: Literal[1, 2] = Field(
        default=2,
        description="images by which a member's case differs from a non-member's: 2 in exact halves, 1 if each is a coin",
    )

    @property
    def allowed(self) -> float:
        """Return the largest true-positive rate at `fpr` that the ledger allows in the audit's comparison."""
        return self.bound if self.changes == 1 else self.bound_of_two

    @property
    def epsilon_allowed(self) -> float | None:
        """Return the same as an epsilon; None: more."""
        return self.epsilon_bound if self.changes == 1 else self.epsilon_bound_of_two

    @property
    def alarming(self) -> bool:
        """Whether the attack found more than is proven for one image whose membership is a coin of its own."""
        return self.tpr > self.bound

    @property
    def contradicts(self) -> bool:
        """Whether it found more than is proven for the audit's comparison: ledger or code is wrong."""
        return self.tpr > self.allowed


class Guarantee(Result):
    """What the arm's ledger proves of everything that is released, and how the audit compares."""

    epsilon: float = Field(description="of all mechanisms together, at `delta`")
    delta: float = Field(description="of the ledger; also that of the audit's lower bounds")
    mu: float = Field(description="of the Gaussian mechanism that is as private")
    total_epsilon: float = Field(description="the budget that was asked for")
    n: int = Field(description="private images, a public number")
    adjacency: str = Field(description="what neighbouring private sets are")
    private: bool = Field(
        description="False if noise came from a seed, or something was taken uncharged: then nothing is proven"
    )
    auc: float = Field(description="largest AUC of any test for one image")
    auc_of_two: float = Field(description="largest AUC for two changes")
    tprs: tuple[TprBound, ...] = Field(description="one entry per audited false-positive rate")
    entries: tuple[Charge, ...] = Field(description="every mechanism that read private images")
    declarations: tuple[Declared, ...] = Field(description="what is public or absent instead")
    confidence: float = Field(description="with which all of `compared` hold together")
    compared: tuple[Compared, ...] = Field(description="every attack that has independent scores")

    @property
    def closest(self) -> Compared | None:
        """Return the attack with the largest lower bound of epsilon; None if none has one."""
        return max(self.compared, key=lambda row: row.epsilon, default=None)


class Audit(Result):
    """Everything that `audit.json` contains: one audit per thing, each attacked on its own."""

    version: Literal[3, 4, 5, 6] = Field(default=VERSION, description="of this layout")
    plan: Plan = Field(description="of the shadows")
    things: dict[str, ModelAudit | ThreatAudit] = Field(
        description="audit of each thing by its name in `THINGS`; a thing that an arm does not have is absent"
    )
    extraction: tuple[Extraction, ...] = Field(
        default=(),
        description="members that were reproduced, by space and distance; empty without images and before version 6",
    )
    duplicated: DuplicatedCanaries | None = Field(
        default=None, description="figures of the duplicated canaries; None without any"
    )
    attribution: Attribution | None = Field(
        default=None, description="where the student's leak comes from; None if not measured"
    )
    guarantee: Guarantee | None = Field(
        default=None, description="what the arm's ledger proves; None: nothing, epsilon is infinite"
    )

    @property
    def proven(self) -> Guarantee | None:
        """Return the guarantee if it protects anybody: there is one, and no noise came from a seed."""
        return self.guarantee if self.guarantee is not None and self.guarantee.private else None

    @property
    def models(self) -> dict[str, ModelAudit]:
        """Return the audits of classifiers by name."""
        return {name: a for name, a in self.things.items() if isinstance(a, ModelAudit)}

    @property
    def threats(self) -> dict[str, ThreatAudit]:
        """Return the audits of everything that is not a classifier by name."""
        return {name: a for name, a in self.things.items() if isinstance(a, ThreatAudit)}

    @field_validator("things")
    @classmethod
    def _known(
        cls, things: dict[str, ModelAudit | ThreatAudit]
    ) -> dict[str, ModelAudit | ThreatAudit]:
        unknown = sorted(set(things) - set(THINGS))
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: not in tckr.audit.results.THINGS")
        return things
