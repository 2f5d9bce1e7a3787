"""How a teacher and a student are trained: the same two functions make the target and its shadows."""

import torch
from torch import Tensor, nn

from tckr.classifiers.options import ClassifierOptions, DistillationOptions
from tckr.classifiers.predict import soft_labels
from tckr.classifiers.resnet import ResNet
from tckr.classifiers.train import train


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
    """Train on real images uint8 (N, C, H, W) with classes int64 (N,); see `train`."""
    return train(
        images,
        labels,
        options,
        seed,
        n_classes,
        steps=steps,
        device=device,
        description="teacher",
    )


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
        labels: int64 (M,), classes of the prompts; read for hard labels alone.
        steps: optimiser steps, `options.steps(number of members)`: the teacher's.
        teacher: needed for labels on the fly; for stored ones where `soft` is None.
        soft: float32 (M, n_classes), probabilities stored with the images.

    Raises:
        ValueError: neither a teacher nor stored probabilities for the labels asked for.
    """
    source = distillation.labels
    targets = labels
    if source == "stored":
        if soft is None:
            if teacher is None:
                raise ValueError("stored labels need `soft` or a teacher that computes them")
            soft = soft_labels(teacher, images)
        targets = soft
    if source == "on_the_fly" and teacher is None:
        raise ValueError("labels on the fly need the teacher")
    return train(
        images,
        targets,
        options,
        seed,
        n_classes,
        teacher=teacher if source == "on_the_fly" else None,
        steps=steps,
        device=device,
        description="student",
    )
