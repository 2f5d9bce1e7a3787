"""The optimizer and the learning rates that a classifier recipe names."""

import math
from typing import Any

from torch import Tensor, nn

from tckr.classifiers.options import ClassifierOptions, Decay
from tckr.training.optimizers import AdamW, Muon


def build_optimizer(
    model: nn.Module, options: ClassifierOptions, rate: float | Tensor
) -> Muon | AdamW:
    """Return the optimizer of all trainable weights of `model`.

    Muon, for our ResNet only: orthogonalized updates for the residual blocks, plain momentum with weight decay for stem
    and head, without for norms and biases. AdamW: every weight with decay (as TCKR, arXiv 2504.04582, trains teacher
    and student).

    Args:
        model: on the device where it is trained.
        options: of which `optimiser`, `momentum` and `weight_decay` are read.
        rate: learning rate, a number or a float32 scalar tensor on the device of the parameters.
    """
    if options.optimiser == "adamw":
        trainable = [weight for weight in model.parameters() if weight.requires_grad]
        return AdamW(trainable, rate, options.weight_decay)
    network: Any = model
    groups: list[dict[str, Any]] = [
        {
            "params": [p for p in network.stages.parameters() if p.ndim == 4],
            "orthogonal": True,
        },
        {
            "params": [network.stem.weight, network.head.weight],
            "weight_decay": options.weight_decay,
        },
        {"params": [p for p in network.parameters() if p.ndim < 2]},
    ]
    return Muon(groups, rate, options.momentum)


def learning_rates(options: ClassifierOptions, steps: int) -> list[float]:
    """Return the learning rate of each of `steps` optimizer steps.

    Example:
        >>> options = ClassifierOptions(learning_rate=1.0, warmup=0.5)
        >>> learning_rates(options, 4)
        [0.25, 0.75, 0.75, 0.25]
    """
    return [
        options.learning_rate * one_cycle((step + 0.5) / steps, options.warmup, options.decay)
        for step in range(steps)
    ]


def one_cycle(progress: float, warmup: float, decay: Decay = "linear") -> float:
    """Return the share of the peak learning rate at `progress` in (0, 1).

    It rises linearly over the first `warmup` of the training, then falls to 0 linearly or as a cosine.
    """
    if progress < warmup:
        return progress / warmup
    left = (1 - progress) / (1 - warmup)
    return left if decay == "linear" else (1 - math.cos(math.pi * left)) / 2
