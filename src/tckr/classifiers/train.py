"""Train one classifier; teacher, student and every shadow go through the same `Trainer`."""

import torch
from torch import Tensor, nn

from tckr.classifiers.models import Network
from tckr.classifiers.options import ClassifierOptions
from tckr.classifiers.trainer import Trainer


def train(
    images: Tensor,
    targets: Tensor,
    options: ClassifierOptions,
    seed: int,
    n_classes: int,
    *,
    teacher: nn.Module | None = None,
    steps: int | None = None,
    device: str | torch.device = "cpu",
    description: str = "classifier",
) -> Network:
    """Train a fresh network; the same arguments give the same network on the same machine.

    Args:
        images: uint8 (N, C, H, W).
        targets: int64 (N,) classes or float (N, n_classes) probabilities; not trained on if
            `teacher`.
        options: the recipe.
        seed: of the weights, the order of the images and their views.
        n_classes: classes of the network.
        teacher: gives soft labels on the fly (see `Trainer.train`); stays as and where it is. None
            trains on `targets`.
        steps: optimiser steps; None takes the recipe's number for N images.
        device: where to train; the data stays there, in bfloat16 autocast where it is a GPU.
        description: name of the progress bar.

    Returns:
        The network in evaluation mode, on the CPU.

    Raises:
        ValueError: shapes or classes that do not fit.
    """
    trainer = Trainer(images, options, n_classes, targets=targets, device=device)
    return trainer.train(seed, steps=steps, teacher=teacher, description=description)
