"""Shadow models: the target's own recipe on other random halves of members and holdout."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tckr.classifiers.options import ClassifierOptions, DistillationOptions
from tckr.classifiers.predict import logits
from tckr.classifiers.recipe import Students, Teachers
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
        sizes: how many of the synthetic images, the first ones, each student of a group reads, in
            1..M; empty: one student, which reads all.
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
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True)
class ShadowScores:
    """Logit-scaled confidences in the N examples of what S shadow groups trained.

    Attributes:
        teacher: float64 (S, N).
        students: float64 (S, N) for each size of the experiment, in its order; at least one.
    """

    teacher: NDArray[np.float64]
    students: list[NDArray[np.float64]]


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
        UserError: the matrix is of other data, a class is absent in a shadow, or a size is not of
            these synthetic images.
    """
    _check(experiment, membership)
    shards = [Row(i, row) for i, row in enumerate(membership)]
    groups = map_shards(shadow_group, shards, workers, "shadow groups", shared=Bench(experiment))
    teacher, *students = (np.stack(scores) for scores in zip(*groups, strict=True))
    return ShadowScores(teacher, students)


@dataclass(frozen=True)
class Row:
    """One shadow: its number and the examples (N,) it trains on."""

    number: int
    inside: NDArray[np.bool_]

    def __str__(self) -> str:
        return str(self.number)


class Bench:
    """What all groups of an experiment share: their images on the device, framed and recorded once.

    Teachers and students are trained by the same classes as the targets.
    """

    def __init__(self, experiment: Experiment) -> None:
        e = experiment
        self.experiment = e
        self.images = e.images.to(e.device)
        self.teachers = Teachers(self.images, e.labels, e.classifier, e.n_classes, device=e.device)
        self.students = Students(
            e.synthetic.to(e.device),
            e.synthetic_labels,
            e.classifier,
            e.n_classes,
            distillation=e.distillation,
            device=e.device,
        )


def shadow_group(row: Row, bench: Bench) -> list[NDArray[np.float64]]:
    """Shadow teacher on the row's examples, then shadow students taught by it; their scores (N,).

    The number of steps is the target's for all. The students of a group differ in their images
    alone, not in their seed.
    """
    e = bench.experiment
    seeds = np.random.SeedSequence([e.seed, SHADOW_STREAM, row.number]).generate_state(2)
    inside = torch.from_numpy(np.flatnonzero(row.inside))
    teacher = bench.teachers.train(int(seeds[0]), steps=e.steps, inside=inside).to(e.device)
    scores = [model_scores(teacher, bench.images, e.labels)]
    soft = bench.students.stored(teacher)
    for size in e.sizes or (len(e.synthetic),):
        student = bench.students.train(
            int(seeds[1]), steps=e.steps, teacher=teacher, soft=soft, size=size
        )
        scores.append(model_scores(student.to(e.device), bench.images, e.labels))
    return scores


def _check(experiment: Experiment, membership: NDArray[np.bool_]) -> None:
    n = len(experiment.images)
    if membership.ndim != 2 or membership.shape[1] != n or len(experiment.labels) != n:
        raise UserError(
            f"The membership matrix {membership.shape} is not of these {n} examples.",
            "draw it anew for this data.",
        )
    available = len(experiment.synthetic)
    for size in experiment.sizes:
        if not 1 <= size <= available:
            raise UserError(
                f"A student cannot read {size} of {available} synthetic images.",
                "make more of them, or train on fewer.",
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
