"""Train teachers on real images and students on synthetic ones, for the released models and their shadows alike."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tckr.classifiers.fixed_views import labels_of_views_each
from tckr.classifiers.models import Network
from tckr.classifiers.options import (
    AugmentationOptions,
    ClassifierOptions,
    DistillationOptions,
    SoftLabelOptions,
)
from tckr.classifiers.predict import logits_each
from tckr.classifiers.soft_labels import soften
from tckr.classifiers.trainer import Trainer, TrainSpec


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
    """Train a teacher on real images.

    Args:
        images: uint8 (N, C, H, W).
        labels: int64 (N,).
        options: the recipe.
        seed: as for `TrainSpec`.
        n_classes: classes of the network.
        steps: optimizer steps; None takes the recipe's number for N images.
        device: where to train.

    Returns:
        The teacher in evaluation mode, on the CPU.

    Example:
        >>> images = torch.arange(4 * 64, dtype=torch.uint8).view(4, 1, 8, 8)
        >>> labels = torch.tensor([0, 1, 0, 1])
        >>> options = ClassifierOptions(widths=(4,), batch_size=4)
        >>> teacher = train_teacher(images, labels, options, seed=0, n_classes=2, steps=2)
        >>> distillation = DistillationOptions(labels="on_the_fly")
        >>> student = train_student(
        ...     images, labels, options, seed=1, n_classes=2, distillation=distillation, steps=2, teacher=teacher
        ... )
        >>> student(images / 255).shape
        torch.Size([4, 2])
    """
    trainer = Trainer(images, options, n_classes, targets=labels, device=device)
    return trainer.fit([TrainSpec(seed, steps)], "teacher")[0]


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
    """Train a student on synthetic images alone, with the labels that `distillation` names.

    Args:
        images: synthetic, uint8 (M, C, H, W).
        labels: int64 (M,), classes of the prompts; read for hard labels only.
        options: the recipe.
        seed: as for `TrainSpec`.
        n_classes: classes of the network.
        distillation: source of the labels, and patience.
        steps: optimizer steps of the teacher, `options.steps(number of members)`; the student takes
            `distillation.patience` times as many, whatever the cardinality.
        teacher: needed for labels on the fly, and for stored ones where `soft` is None. It stays on its device.
        soft: float32 (M, n_classes), probabilities stored with the images, or (M, K, n_classes) of K fixed views; they are
            learnt as they are, while what a teacher says goes through `options.soft_labels`.
        device: where to train.

    Returns:
        The student in evaluation mode, on the CPU.

    Raises:
        ValueError: no teacher, or no stored probabilities, for labels that need them.
    """
    trainer = student_trainer(
        images, labels, options, n_classes, distillation=distillation, device=device
    )
    spec = student_spec(
        images, distillation, seed, steps=steps, teacher=teacher, soft=soft,
        augmentation=options.augmentation, told=options.soft_labels,
    )  # fmt: skip
    return trainer.fit([spec], "student")[0]


def student_trainer(
    images: Tensor,
    labels: Tensor,
    options: ClassifierOptions,
    n_classes: int,
    *,
    distillation: DistillationOptions,
    device: str | torch.device = "cpu",
) -> Trainer:
    """Return a trainer for several students on the same synthetic images; arguments as for `train_student`."""
    targets = hard_targets(labels, distillation)
    return Trainer(images, options, n_classes, targets=targets, device=device)


def hard_targets(labels: Tensor, distillation: DistillationOptions) -> Tensor | None:
    """Return the classes of the prompts where students are trained on them, else None."""
    return labels if distillation.labels == "hard" else None


def student_spec(
    images: Tensor,
    distillation: DistillationOptions,
    seed: int,
    *,
    steps: int,
    teacher: nn.Module | None = None,
    soft: Tensor | None = None,
    size: int | None = None,
    augmentation: AugmentationOptions | None = None,
    told: SoftLabelOptions | None = None,
) -> TrainSpec:
    """Return the spec of one student for a `student_trainer`.

    Args:
        images: those of the trainer; labelled by `teacher` here where labels are stored and `soft` is None.
        distillation: as for the trainer.
        seed: as for `TrainSpec`.
        steps: optimizer steps of the teacher; the student takes `patience` times as many.
        teacher: as for `train_student`.
        soft: as for `train_student`.
        size: train on the first `size` images only; None trains on all.
        augmentation: of the recipe, within which stored views lie; needed for more than one.
        told: of the recipe, how much the stored labels of `teacher` say; None: all. On the fly the trainer sees to it.

    Raises:
        ValueError: no teacher, or no stored probabilities, for labels that need them.
    """
    source = distillation.labels
    if source != "hard" and teacher is None and (source == "on_the_fly" or soft is None):
        raise ValueError(f"labels {source} need a teacher")
    if source == "stored" and soft is None and teacher is not None:
        (soft,) = stored_labels_of([teacher], images, distillation, augmentation, told)
    return TrainSpec(
        seed,
        distillation.steps(steps),
        None if size is None else torch.arange(size),
        teacher=teacher if source == "on_the_fly" else None,
        targets=soft if source == "stored" else None,
        regenerate=distillation.regenerate,
    )


def stored_labels_of(
    teachers: Sequence[nn.Module],
    images: Tensor,
    distillation: DistillationOptions,
    augmentation: AugmentationOptions | None = None,
    told: SoftLabelOptions | None = None,
) -> list[Tensor]:
    """Return what each teacher's student would find stored with the images; arguments as for `student_spec`.

    Returns:
        Probabilities, float32 (M, n_classes) or, of K > 1 views, (M, K, n_classes), from one pass over the images.
    """
    if distillation.views == 1:
        said = [z.softmax(1) for z in logits_each(teachers, images)]
    else:
        assert augmentation is not None
        said = labels_of_views_each(teachers, images, distillation.views, augmentation)
    return said if told is None else [soften(soft, told) for soft in said]
