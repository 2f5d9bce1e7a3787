"""Typed parameters of the classifier recipe shared by teacher, student and every shadow."""

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from tckr.options import ModelSource, Options

LabelSource = Literal["on_the_fly", "stored", "hard"]
Decay = Literal["linear", "cosine"]
OURS = "resnet"
SCATTERING = "scattering"


class AugmentationOptions(Options):
    """Random views of a training batch; 0 or false switches a transformation off."""

    shift: int = Field(default=1, ge=0, le=32, description="largest shift along each axis, pixels")
    flip: bool = Field(
        default=True, description="mirror left and right; off where sides carry meaning"
    )
    contrast: float = Field(
        default=0.15, ge=0, lt=1, description="largest relative change of contrast"
    )
    offset: float = Field(
        default=0.05, ge=0, lt=1, description="largest brightness offset, white is 1"
    )
    augmix: bool = Field(
        default=False,
        description="mix in chains of random operations (Hendrycks et al. 2020, arXiv 1912.02781)",
    )
    mixup: float = Field(
        default=0.0,
        ge=0,
        le=10,
        description="alpha of MixUp (Zhang et al. 2018, arXiv 1710.09412), 1 mixes evenly; not with"
        " soft labels on the fly",
    )


class SoftLabelOptions(Options):
    """How much a teacher's soft labels say, on the fly and stored alike; see `tckr.classifiers.soft_labels`."""

    temperature: float = Field(
        default=1.0,
        gt=0,
        le=100,
        description="of the probabilities: below 1 they are sharper, above 1 flatter",
    )
    top_k: int | None = Field(
        default=None,
        ge=1,
        description="keep so many of the largest probabilities, which then add up to 1; 1: the teacher's decision alone;"
        " null: all of them",
    )
    confidence: float = Field(
        default=1.0,
        gt=0.5,
        le=1,
        description="largest probability that is told; what exceeds it is shared out evenly among the other classes",
    )

    @property
    def plain(self) -> bool:
        """Whether labels are told as the teacher gives them."""
        return self == SoftLabelOptions()

    def described(self) -> str:
        """Say in one sentence what was done to the labels.

        >>> SoftLabelOptions(temperature=2, top_k=3).described()
        "The teacher's labels were told at temperature 2, the 3 largest probabilities alone."
        """
        parts = [f"at temperature {self.temperature:g}"] if self.temperature != 1 else []
        if self.top_k is not None:
            alone = f"the {self.top_k} largest probabilities alone"
            parts.append("the decision alone" if self.top_k == 1 else alone)
        if self.confidence < 1:
            parts.append(f"no probability above {self.confidence:g}")
        return f"The teacher's labels were told {', '.join(parts) or 'as they are'}."


class ClassifierOptions(Options):
    """One recipe for teacher, student and shadows: architecture, optimizer and schedule."""

    architecture: Annotated[str, ModelSource("classifier")] = Field(
        default=OURS,
        min_length=1,
        description="resnet (ours, see widths, depth, stride), scattering (a linear head on the scattering"
        " transform, fitted in closed form: see ridge), or a folder or hub id of any transformers image classifier",
    )
    pretrained: bool = Field(
        default=False,
        description="start from the weights of that folder or hub id; the head is new",
    )
    optimiser: Literal["muon", "adamw"] = Field(
        default="muon", description="muon is for our resnet alone"
    )
    decay: Decay = Field(default="linear", description="how the learning rate falls to 0")
    widths: tuple[int, ...] = Field(
        default=(16, 32, 96), min_length=1, max_length=6, description="channels of each stage"
    )
    depth: int = Field(default=1, ge=1, le=16, description="residual blocks per stage")
    stride: Literal[1, 2, 4] | None = Field(
        default=None,
        description="pixels of one axis that the stem folds into one position; none: 2 below 48"
        " pixels, then 4, 8",
    )
    epochs: int = Field(
        default=12, ge=1, description="passes over the members; sets the optimizer steps"
    )
    batch_size: int = Field(default=128, ge=2, description="images per optimizer step")
    learning_rate: float = Field(default=0.1, gt=0, description="peak of the one-cycle schedule")
    warmup: float = Field(default=0.25, ge=0, lt=1, description="share of the steps spent rising")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Nesterov momentum")
    weight_decay: float = Field(
        default=5e-4, ge=0, description="muon: of stem and head; adamw: of every weight"
    )
    label_smoothing: float = Field(
        default=0.1, ge=0, lt=1, description="share of the target made uniform"
    )
    soft_labels: SoftLabelOptions = Field(
        default=SoftLabelOptions(),
        description="how much a teacher's labels say: to its student, to every shadow's, and in the recycled set",
    )
    ridge: float | None = Field(
        default=None,
        gt=0,
        description="scattering: weight of the head's squared norm, where a feature's mean square is 1;"
        " null: 1e-5 for a teacher's labels, 1 for classes",
    )
    augmentation: AugmentationOptions = AugmentationOptions()
    compile: bool = Field(
        default=False,
        description="on a GPU, compile the networks: half a minute once, then faster steps; changes only the speed, not what is learned",
    )

    @model_validator(mode="after")
    def _fits(self) -> "ClassifierOptions":
        if self.architecture not in (OURS, SCATTERING) and self.optimiser == "muon":
            raise ValueError(f"optimiser muon is for architecture {OURS}: choose adamw")
        if self.architecture in (OURS, SCATTERING) and self.pretrained:
            raise ValueError(f"architecture {self.architecture} has no pretrained weights")
        return self

    def steps(self, n_members: int) -> int:
        """Optimizer steps of teacher, student and shadows for a private set of `n_members`."""
        return self.epochs * math.ceil(n_members / self.batch_size)


class RegenerationOptions(Options):
    """How often fresh images take the place of the old ones while a student trains (GaFi, arXiv 2407.15526).

    The images are drawn before the training, as slices of one set: they are released, and audited, as a whole.
    """

    every: int = Field(
        default=1, ge=1, description="passes over a slice before the next takes its place"
    )
    slices: int = Field(
        default=1,
        ge=1,
        description="equal parts of the set, one behind another; a run takes what its recycled set has"
        " (knowledge_recycling.slices)",
    )

    def slice_of(self, epoch: int) -> int:
        """Return the slice that is read in an epoch, both counted from 0; after the last comes the first again.

        >>> [RegenerationOptions(every=2, slices=3).slice_of(epoch) for epoch in range(8)]
        [0, 0, 1, 1, 2, 2, 0, 0]
        """
        return epoch // self.every % self.slices

    def described(self) -> str:
        """Say in one sentence what was regenerated."""
        passes = "every epoch" if self.every == 1 else f"every {self.every:,} epochs"
        return (
            f"The student saw fresh images {passes}: the next of {self.slices:,} slices of the set."
        )


class DistillationOptions(Options):
    """What the student is trained on beside the synthetic images."""

    labels: LabelSource = Field(
        default="on_the_fly",
        description="teacher's probabilities of each augmented view (on_the_fly), those stored with"
        " the images (stored), or the class of the prompt (hard)",
    )
    views: int = Field(
        default=1,
        ge=1,
        le=64,
        description="stored: fixed views of each image (tckr.classifiers.fixed_views) with a label of their own; 1: one"
        " label for all random views; a run takes what its recycled set has (knowledge_recycling.stored_views)",
    )
    patience: float = Field(
        default=1.0,
        gt=0,
        le=100,
        description="the student's optimizer steps as a multiple of the teacher's (a patient"
        " student: Beyer et al. 2022, arXiv 2106.05237)",
    )
    regenerate: RegenerationOptions | None = Field(
        default=None,
        description="show the student slice after slice of the set, an epoch being a pass over one; null: all at once",
    )

    def describe(self) -> str:
        """Say in a few words what the stage will do."""
        labels = f"student on the recycled set alone, labels: {self.labels.replace('_', ' ')}"
        if self.regenerate is None:
            return labels
        return f"{labels}, fresh images every {self.regenerate.every:,} epochs"

    def steps(self, of_teacher: int) -> int:
        """Optimizer steps of a student whose teacher took `of_teacher`; at least one."""
        return max(1, round(of_teacher * self.patience))
