"""Typed parameters of the audit: everything in it is fixed before the run, nothing is chosen by its outcome."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import Field, field_validator, model_validator

from tckr.attacks import ATTACKS, Variance
from tckr.options import ModelSource, Options

# A type checker cannot read the names off the registry; pydantic, at run time, does.
if TYPE_CHECKING:
    AttackName: TypeAlias = str
else:
    AttackName = Literal[tuple(ATTACKS)]
Scope = Literal["classifier", "distillation", "pipeline"]
SignalName = Literal["loss", "one_query", "pia", "secmi"]
PIA_PASSES, SECMI_STEPS = 2, 10  # the papers' own: see `tckr.audit.denoising_attacks`
FEWEST_FOR_A_VARIANCE = 8
FEWEST_TO_LEAVE_ONE_OUT = 6


class GeneratorThreat(Options):
    """White-box attack on the adapted generator; what each signal is, `tckr.audit.denoising_attacks` says."""

    signals: tuple[SignalName, ...] = Field(
        default=("loss", "one_query", "pia"),
        min_length=1,
        description="what is computed about each image: loss, and one pass (one_query), two (pia), twelve (secmi)",
    )
    record: SignalName = Field(
        default="loss", description="the signal of the primary attack, one of `signals`"
    )
    timesteps: tuple[float, ...] = Field(
        default=(0.1, 0.3, 0.5),
        min_length=1,
        description="noise levels of the loss, as shares of the schedule",
    )
    noises: int = Field(default=1, ge=1, description="fixed noises for each noise level")
    seed: int = Field(default=0, description="of the fixed noises; the same for every model")

    @property
    def passes(self) -> int:
        """Passes of the denoiser for each image."""
        passes: dict[SignalName, int] = {
            "loss": len(self.timesteps) * self.noises,
            "one_query": 1,
            "pia": PIA_PASSES,
            "secmi": SECMI_STEPS + 2,
        }
        return sum(passes[name] for name in self.signals)

    def queries(self) -> dict[str, Any]:
        """Arguments of `denoising_signals`."""
        return self.model_dump(exclude={"record"})

    @model_validator(mode="after")
    def _record_is_computed(self) -> "GeneratorThreat":
        if self.record not in self.signals:
            raise ValueError(f"record: {self.record} is not one of the signals")
        return self


class ReleaseThreat(Options):
    """Attack on what is handed out beside the student: the images alone, the prompts alone."""

    encoder: Annotated[str, ModelSource("encoder")] = Field(
        description="folder of a transformers CLIPModel: features of images"
    )
    neighbours: int = Field(default=1, ge=1, le=100, description="k of the density ratio")
    extraction: tuple[float, ...] = Field(
        default=(0.0, 0.01),
        min_length=1,
        description="distances within which a released image counts as a member's copy: shares of the holdout that may lie as"
        " near; 0: nearer than every holdout image",
    )

    @field_validator("extraction")
    @classmethod
    def _shares(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 <= value < 0.5 for value in values):
            raise ValueError("must lie between 0 and 0.5, shares of the holdout")
        return values


class AttackerOptions(Options):
    """The student that an attacker trains on the recycled set as it is handed out; see `tckr.audit.attacker`."""

    patience: float = Field(
        default=0.5,
        gt=0,
        le=100,
        description="its optimizer steps as a multiple of the teacher's: more of them find more of a leak",
    )
    random_views: bool = Field(
        default=False,
        description="train on random views of each image, as the owner's student; else on those alone whose labels are stored,"
        " without smoothing these, which needs half as many steps for the same",
    )


class AuditRuntime(Options):
    """How the audit is computed; nothing here changes a figure."""

    workers: int = Field(
        default=2,
        ge=1,
        description="shadow groups that a CPU trains at once, one process per group",
    )
    stack: int = Field(
        default=1, ge=1, le=64, description="networks that one GPU trains side by side"
    )
    checkpoints: str | None = Field(
        default=None,
        description="folder of finished shadow groups, from which a killed audit resumes",
    )


class AuditOptions(AuditRuntime):
    """The audit of teacher, student, generator, images and prompts: what changes its figures, and its runtime."""

    scope: Literal["distillation", "pipeline"] = Field(
        default="distillation",
        description="what a shadow repeats: teacher and student on the released images, or all of"
        " it: adapter, images, teacher, student",
    )
    n_shadows: int = Field(default=16, ge=4, le=4096, description="shadow groups; an even number")
    time_budget_minutes: float | None = Field(
        default=None,
        gt=0,
        description="with it, as many shadows as fit into this time, `n_shadows` at most",
    )
    attack: AttackName = Field(
        default="rmia",
        description="primary attack: the one behind AUC_MIA; the others stand beside",
    )
    variance: Variance = Field(
        default="global",
        description="of LiRA: one for all examples (advised below 64 shadows), or one for each",
    )
    queries: int = Field(
        default=1, ge=1, le=10, description="views of each image with which a model is queried"
    )
    weights_queries: int = Field(
        default=4,
        ge=1,
        le=10,
        description="views of each image with which the student is queried by an attacker who holds its weights; as many as"
        " the recipe's augmentation has, at most",
    )
    fprs: tuple[float, ...] = Field(
        default=(0.01, 0.001, 0.0001),
        min_length=1,
        description="false-positive rates of the TPR; the first is the headline",
    )
    priors: tuple[float, ...] = Field(
        default=(0.01, 0.1, 0.5), description="shares of members for which precision is stated"
    )
    delta: float = Field(default=1e-5, ge=0, lt=1, description="of the epsilon lower bound")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="of every interval")
    attribution: bool = Field(
        default=False,
        description="also train students without one or more of soft labels, adapter and captions:"
        " where the leak comes from (scope pipeline)",
    )
    asked: int | None = Field(
        default=None,
        ge=20,
        description="members, and as many holdout images, with which the generator and the prompts"
        " are queried; none: all",
    )
    generator: GeneratorThreat = GeneratorThreat()
    release: ReleaseThreat
    attacker: AttackerOptions = AttackerOptions()

    def describe(self) -> str:
        """Say in a few words what the stage will do."""
        return (
            f"attack everything that would be released, calibrated by {self.n_shadows} shadows of each model (scope"
            f" {self.scope})"
        )

    @field_validator("n_shadows")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("must be even: every example is in half of the shadows")
        return value

    @field_validator("fprs", "priors")
    @classmethod
    def _rates(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 < value < 1 for value in values):
            raise ValueError("must lie between 0 and 1")
        return values

    @model_validator(mode="after")
    def _together(self) -> "AuditOptions":
        if self.attribution and self.scope != "pipeline":
            raise ValueError("attribution needs scope: pipeline, whose shadows adapt a generator")
        if self.attribution and self.n_shadows < FEWEST_TO_LEAVE_ONE_OUT:
            raise ValueError(
                f"attribution needs {FEWEST_TO_LEAVE_ONE_OUT} shadows, each attacked with the others"
            )
        if self.variance == "per_example" and self.n_shadows < FEWEST_FOR_A_VARIANCE:
            raise ValueError(
                f"variance: per_example needs {FEWEST_FOR_A_VARIANCE} shadows, of which an example"
                " is in half; take more shadows or variance: global"
            )
        return self
