"""How teachers and students are trained: the same two classes make the targets and their shadows."""

from typing import TypeAlias

import torch
from torch import Tensor, nn

from tckr.classifiers.models import Network
from tckr.classifiers.options import ClassifierOptions, DistillationOptions
from tckr.classifiers.predict import soft_labels
from tckr.classifiers.trainer import Job, Trainer, train_together

Training: TypeAlias = tuple[Trainer, Job]
"""One network to train; `train_together` takes several, of any teachers and students."""


class Teachers:
    """Trains teachers, each on some of the same real images."""

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        options: ClassifierOptions,
        n_classes: int,
        *,
        device: str | torch.device = "cpu",
    ) -> None:
        """Take the pool of images uint8 (N, C, H, W) with classes int64 (N,)."""
        self._trainer = Trainer(images, options, n_classes, targets=labels, device=device)

    def training(
        self, seed: int, *, steps: int | None = None, inside: Tensor | None = None
    ) -> Training:
        """One to be trained on the images at `inside`, int64 (K,), or on all; see `Job`."""
        return self._trainer, Job(seed, steps, inside)

    def train(
        self, seed: int, *, steps: int | None = None, inside: Tensor | None = None
    ) -> Network:
        """Train one; arguments as for `training`."""
        training = self.training(seed, steps=steps, inside=inside)
        return train_together([training], "teacher")[0]


class Students:
    """Trains students of any teacher on the first of the same synthetic images."""

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        options: ClassifierOptions,
        n_classes: int,
        *,
        distillation: DistillationOptions,
        device: str | torch.device = "cpu",
    ) -> None:
        """Take the synthetic images uint8 (M, C, H, W) with the classes int64 (M,) of their prompts.

        The classes are trained on for hard labels alone.
        """
        self._images, self._distillation = images, distillation
        hard = labels if distillation.labels == "hard" else None
        self._trainer = Trainer(images, options, n_classes, targets=hard, device=device)

    def training(
        self,
        seed: int,
        *,
        steps: int,
        teacher: nn.Module | None = None,
        soft: Tensor | None = None,
        size: int | None = None,
    ) -> Training:
        """One to be trained with the labels that the distillation names.

        Args:
            seed: as for `Job`.
            steps: the teacher's; the student takes `patience` times as many.
            teacher: needed for labels on the fly, and for stored ones without `soft`.
            soft: float32 (M, n_classes), stored labels of all images.
            size: how many of the images, the first ones, the student reads; None: all.

        Raises:
            ValueError: no teacher or stored probabilities for the labels asked for.
        """
        source = self._distillation.labels
        if source != "hard" and teacher is None and (source == "on_the_fly" or soft is None):
            raise ValueError(f"labels {source} need a teacher")
        if source == "stored" and soft is None and teacher is not None:
            soft = soft_labels(teacher, self._images)
        job = Job(
            seed,
            self._distillation.steps(steps),
            None if size is None else torch.arange(size),
            teacher=teacher if source == "on_the_fly" else None,
            targets=soft if source == "stored" else None,
        )
        return self._trainer, job

    def train(
        self,
        seed: int,
        *,
        steps: int,
        teacher: nn.Module | None = None,
        soft: Tensor | None = None,
        size: int | None = None,
    ) -> Network:
        """Train one; arguments as for `training`."""
        training = self.training(seed, steps=steps, teacher=teacher, soft=soft, size=size)
        return train_together([training], "student")[0]

    def replace(self, images: Tensor, labels: Tensor) -> None:
        """Let other synthetic images, as many and as large, take the place of these."""
        hard = labels if self._distillation.labels == "hard" else None
        self._trainer.replace(images, hard)
        self._images = images


def train_teacher(
    images: Tensor,
    labels: Tensor,
    options: ClassifierOptions,
    seed: int,
    n_classes: int,
    *,
    steps: int | None = None,
    device: str | torch.device = "cpu",
) -> Network:
    """Train on real images uint8 (N, C, H, W) with classes int64 (N,); see `Trainer.train`."""
    return Teachers(images, labels, options, n_classes, device=device).train(seed, steps=steps)


def train_student(
    images: Tensor,
    labels: Tensor,
    options: ClassifierOptions,
    seed: int,
    n_classes: int,
    *,
    distillation: DistillationOptions,
    steps: int,
    teacher: nn.Module | None = None,
    soft: Tensor | None = None,
    device: str | torch.device = "cpu",
) -> Network:
    """Train on synthetic images alone, with the labels that `distillation` names.

    Args:
        images: synthetic, uint8 (M, C, H, W).
        labels: int64 (M,), classes of the prompts; trained on for hard labels alone.
        steps: optimiser steps of the teacher, `options.steps(number of members)`; the student takes
            `distillation.patience` times as many, whatever the cardinality.
        teacher: needed for labels on the fly; for stored ones where `soft` is None. It stays on its
            device.
        soft: float32 (M, n_classes), probabilities stored with the images.

    Raises:
        ValueError: neither a teacher nor stored probabilities for the labels asked for.
    """
    students = Students(
        images, labels, options, n_classes, distillation=distillation, device=device
    )
    return students.train(seed, steps=steps, teacher=teacher, soft=soft)
