"""How teachers and students are trained: the same two classes make the targets and their shadows."""

import torch
from torch import Tensor, nn

from tckr.classifiers.options import ClassifierOptions, DistillationOptions
from tckr.classifiers.predict import soft_labels
from tckr.classifiers.resnet import ResNet
from tckr.classifiers.trainer import Trainer


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

    def train(self, seed: int, *, steps: int | None = None, inside: Tensor | None = None) -> ResNet:
        """Train one on the images at `inside`, int64 (K,), or on all; see `Trainer.train`."""
        return self._trainer.train(seed, steps=steps, inside=inside, description="teacher")


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

    def train(
        self,
        seed: int,
        *,
        steps: int,
        teacher: nn.Module | None = None,
        soft: Tensor | None = None,
        size: int | None = None,
    ) -> ResNet:
        """Train one with the labels that the distillation names.

        Args:
            seed: as for `Trainer.train`.
            steps: the teacher's; the student takes `patience` times as many.
            teacher: needed for labels on the fly.
            soft: float32 (M, n_classes), needed for stored labels; see `stored`.
            size: how many of the images, the first ones, the student reads; None: all.

        Raises:
            ValueError: no teacher or stored probabilities for the labels asked for.
        """
        source = self._distillation.labels
        if source == "stored" and soft is None:
            raise ValueError("stored labels need `soft` or a teacher that computes them")
        if source == "on_the_fly" and teacher is None:
            raise ValueError("labels on the fly need the teacher")
        return self._trainer.train(
            seed,
            steps=self._distillation.steps(steps),
            inside=None if size is None else torch.arange(size),
            targets=soft if source == "stored" else None,
            teacher=teacher if source == "on_the_fly" else None,
            description="student",
        )

    def stored(self, teacher: nn.Module) -> Tensor | None:
        """The teacher's probabilities of all images where the labels are stored ones, else None."""
        return soft_labels(teacher, self._images) if self._distillation.labels == "stored" else None


def train_teacher(
    images: Tensor,
    labels: Tensor,
    options: ClassifierOptions,
    seed: int,
    n_classes: int,
    *,
    steps: int | None = None,
    device: str | torch.device = "cpu",
) -> ResNet:
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
) -> ResNet:
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
    if soft is None and teacher is not None:
        soft = students.stored(teacher)
    return students.train(seed, steps=steps, teacher=teacher, soft=soft)
