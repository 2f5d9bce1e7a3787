"""Shadow models: the target's own recipe on other random halves of members and holdout."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tckr.classifiers.options import ClassifierOptions, DistillationOptions
from tckr.classifiers.predict import logits
from tckr.classifiers.recipe import train_student, train_teacher
from tckr.engine import map_shards
from tckr.errors import UserError
from tckr.membership.signals import logit_scaled

# Keeps the seeds of shadows apart from any seed of a target.
SHADOW_STREAM = 0x7AD0


@dataclass(frozen=True)
class Experiment:
    """What one shadow group needs: the audited examples, the released images and the recipe.

    Attributes:
        images: uint8 (N, C, H, W), members and holdout.
        labels: int64 (N,).
        synthetic: uint8 (M, C, H, W), the released images, held fixed.
        synthetic_labels: int64 (M,), classes of their prompts.
        n_classes: C.
        steps: optimiser steps of the target, `classifier.steps(number of members)`.
        classifier: recipe of teacher and student.
        distillation: labels of the student.
        seed: of the run; the shadows' own seeds are derived from it.
        device: where shadows are trained.
    """

    images: Tensor
    labels: Tensor
    synthetic: Tensor
    synthetic_labels: Tensor
    n_classes: int
    steps: int
    classifier: ClassifierOptions
    distillation: DistillationOptions
    seed: int
    device: str = "cpu"


@dataclass(frozen=True)
class ShadowScores:
    """Logit-scaled confidences float64 (S, N) of shadow teachers and shadow students."""

    teacher: NDArray[np.float64]
    student: NDArray[np.float64]


def model_scores(model: nn.Module, images: Tensor, labels: Tensor) -> NDArray[np.float64]:
    """Logit-scaled confidence (N,) of a model in images uint8 (N, C, H, W) with classes (N,)."""
    return logit_scaled(logits(model, images).numpy(), labels.numpy())


def run_shadows(
    experiment: Experiment, membership: NDArray[np.bool_], workers: int = 1
) -> ShadowScores:
    """Train one shadow group for each row of `membership` and score all examples with it.

    Args:
        experiment: the examples and the recipe.
        membership: bool (S, N).
        workers: processes; 1 stays in this one, as a GPU needs.

    Raises:
        UserError: the matrix is of other data, or a class is absent in a shadow.
    """
    _check(experiment, membership)
    rows = list(enumerate(membership))
    shards = [Row(i, row) for i, row in rows]
    groups = map_shards(shadow_group, shards, workers, "shadow groups", shared=experiment)
    return ShadowScores(*(np.stack(scores) for scores in zip(*groups, strict=True)))


@dataclass(frozen=True)
class Row:
    """One shadow: its number and the examples (N,) it trains on."""

    number: int
    inside: NDArray[np.bool_]

    def __str__(self) -> str:
        return str(self.number)


def shadow_group(
    row: Row, experiment: Experiment
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shadow teacher on the row's examples, then shadow student taught by it; their scores (N,).

    The two training functions are those of the target, and the number of steps is the target's.
    """
    e = experiment
    seeds = np.random.SeedSequence([e.seed, SHADOW_STREAM, row.number]).generate_state(2)
    inside = torch.from_numpy(row.inside)
    teacher = train_teacher(
        e.images[inside],
        e.labels[inside],
        e.classifier,
        int(seeds[0]),
        e.n_classes,
        steps=e.steps,
        device=e.device,
    )
    of_teacher = model_scores(teacher, e.images, e.labels)
    student = train_student(
        e.synthetic,
        e.synthetic_labels,
        e.classifier,
        int(seeds[1]),
        e.n_classes,
        distillation=e.distillation,
        steps=e.steps,
        teacher=teacher,
        device=e.device,
    )
    return of_teacher, model_scores(student, e.images, e.labels)


def _check(experiment: Experiment, membership: NDArray[np.bool_]) -> None:
    n = len(experiment.images)
    if membership.ndim != 2 or membership.shape[1] != n or len(experiment.labels) != n:
        raise UserError(
            f"The membership matrix {membership.shape} is not of these {n} examples.",
            "draw it anew for this data.",
        )
    labels = experiment.labels.numpy()
    present = np.unique(labels)
    for number, row in enumerate(membership):
        absent = np.setdiff1d(present, labels[row])
        if len(absent):
            raise UserError(
                f"Shadow {number} would train without class {absent[0]}.",
                "audit with more examples of it, or leave the class out.",
            )
