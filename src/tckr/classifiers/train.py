"""The one training function: teacher, student and every shadow go through it."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tckr.classifiers.augment import pad, views
from tckr.classifiers.muon import Muon
from tckr.classifiers.options import ClassifierOptions
from tckr.classifiers.resnet import ResNet, stem_stride
from tckr.progress import track


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
) -> ResNet:
    """Train a fresh network; the same arguments give the same network on the same machine.

    With a `teacher` the target of a view x is the teacher's softmax at x, temperature 1, and the
    loss is L = -sum_c [(1 - s) softmax(z_T(x))_c + s/C] log softmax(z_S(x))_c with label smoothing
    s: generative knowledge distillation (Lomurno et al., arXiv 2407.15526; TCKR, arXiv 2504.04582).

    Args:
        images: uint8 (N, C, H, W).
        targets: int64 (N,) classes or float (N, n_classes) probabilities; not read if `teacher`.
        options: the recipe.
        seed: of the weights, the order of the images and their views.
        n_classes: classes of the network.
        teacher: gives soft labels on the fly; None trains on `targets`.
        steps: optimiser steps; None takes the recipe's number for N images. A student is given its
            teacher's number, so that both get the same training whatever the cardinality.
        device: where to train; the data stays there, in bfloat16 autocast where it is a GPU.
        description: name of the progress bar.

    Returns:
        The network in evaluation mode, on the CPU.

    Raises:
        ValueError: shapes or classes that do not fit.
    """
    _check(images, targets, n_classes)
    device = torch.device(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        stride = stem_stride(min(images.shape[-2:]))
        model = ResNet(images.shape[1], n_classes, options.widths, stride)
    model = model.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    if teacher is not None:
        teacher = teacher.to(device).eval()
    steps = steps or options.steps(len(images))
    targets = _probabilities(targets, n_classes)
    _optimise(
        model,
        images.to(device),
        targets.to(device),
        options,
        teacher=teacher,
        steps=steps,
        seed=seed,
        description=description,
    )
    return model.cpu().eval()


def _optimise(
    model: ResNet,
    images: Tensor,
    targets: Tensor,
    options: ClassifierOptions,
    *,
    teacher: nn.Module | None,
    steps: int,
    seed: int,
    description: str,
) -> None:
    device = images.device
    optimiser = _optimiser(model, options)
    order = _order(len(images), steps * options.batch_size, torch.Generator().manual_seed(seed))
    generator = torch.Generator(device).manual_seed(seed)
    padded = pad(images, options.augmentation)
    batches = order.to(device).split(options.batch_size)
    for step, index in enumerate(track(batches, description, steps)):
        for group in optimiser.param_groups:
            group["lr"] = options.learning_rate * cycle((step + 0.5) / steps, options.warmup)
        batch = views(padded, index, options.augmentation, generator)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            target = targets[index]
            if teacher is not None:
                with torch.no_grad():
                    target = teacher(batch).float().softmax(1)
            predicted = model(batch)
        loss = F.cross_entropy(predicted.float(), target, label_smoothing=options.label_smoothing)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()


def cycle(position: float, warmup: float) -> float:
    """Share of the peak learning rate at `position` in (0, 1): linear rise, linear fall to 0."""
    if position < warmup:
        return position / warmup
    return (1 - position) / (1 - warmup)


def _check(images: Tensor, targets: Tensor, n_classes: int) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or len(images) == 0:
        raise ValueError(f"images must be uint8 (N, C, H, W), not {images.dtype} {images.shape}")
    if len(targets) != len(images):
        raise ValueError(f"{len(images)} images but {len(targets)} targets")
    if targets.ndim == 1 and not 0 <= int(targets.min()) <= int(targets.max()) < n_classes:
        raise ValueError(f"classes must lie in 0..{n_classes - 1}")
    if targets.ndim == 2 and targets.shape[1] != n_classes:
        raise ValueError(f"soft targets have {targets.shape[1]} columns, not {n_classes}")


def _probabilities(targets: Tensor, n_classes: int) -> Tensor:
    return F.one_hot(targets, n_classes).float() if targets.ndim == 1 else targets.float()


def _order(n: int, total: int, generator: torch.Generator) -> Tensor:
    """`total` indices: whole shuffled passes over n images, one after another."""
    passes = [torch.randperm(n, generator=generator) for _ in range(math.ceil(total / n))]
    return torch.cat(passes)[:total]


def _optimiser(model: ResNet, options: ClassifierOptions) -> Muon:
    """Muon for the blocks; stem and head by plain momentum with decay; norms and biases without."""
    blocks = [p for p in model.stages.parameters() if p.ndim == 4]
    groups: list[dict[str, Any]] = [
        {"params": blocks, "orthogonal": True},
        {
            "params": [model.stem.weight, model.head.weight],
            "weight_decay": options.weight_decay,
        },
        {"params": [p for p in model.parameters() if p.ndim < 2]},
    ]
    return Muon(groups, options.learning_rate, options.momentum)
