"""The things that a release may contain, the attacker that is assumed for each, and what the audit of each found."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Self

from pydantic import Field, model_validator

from tckr.audit.attack_results import AttackResult, Epsilon, Group, Interval, Result, Roc, Tpr
from tckr.audit.options import Scope, Variance


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
        "The adapter is released. The attacker holds its weights, the generator before adaptation, and the candidate image with"
        " its caption, or its class where the arm has no captions, and measures how well the denoiser fits the image.",
    ),
    "joint": Thing(
        "All released things together",
        "The attacker holds everything at once: the student's file, the recycled set as handed out, the teacher of an arm under"
        " differential privacy and, where shadows adapted a generator of their own, the adapter. They attack each as above and"
        " weigh the answers by what a logistic regression learnt on the shadows, whose training sets they know.",
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
    "generator": Thing(
        "Generator (white box)",
        "The adapter may be released, which was trained under differential privacy. The attacker holds its weights, the generator"
        " as it was before, pre-trained on public images or not, and the candidate image with its prompt, and measures how well"
        " the denoiser fits the image.",
    ),
    "prompts": Thing(
        "Prompts alone",
        "The prompts are released, which were made under differential privacy unless they are bare class names. The"
        " attacker captions the candidate image with the same captioner and looks for that caption. By default the"
        " prompts are withheld (knowledge_recycling.release_prompts).",
    ),
}


def thing_of(name: str, *, proven: bool) -> Thing:
    """Return what a thing is called and who attacks it; under a guarantee its teacher, adapter or prompts may be released.

    >>> [thing_of("teacher", proven=each).title for each in (False, True)]
    ['Teacher, for reference', 'Teacher (black box)']
    """
    return (PROVEN_THINGS if proven else {}).get(name, THINGS[name])


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
