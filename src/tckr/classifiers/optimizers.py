"""The optimiser that a recipe asks for, and its learning rates."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from tckr.classifiers.options import ClassifierOptions, Decay
from tckr.training.muon import Muon


class AdamW(torch.optim.AdamW):
    """torch's AdamW, fused, with the interface of `Muon`.

    With a learning rate that is a tensor nothing depends on its value: a CUDA graph can record the step.
    """

    def __init__(self, model: nn.Module, lr: float | Tensor, weight_decay: float) -> None:
        """Take all weights of `model`, on the device of `lr` where that is a tensor."""
        parameters = [weight for weight in model.parameters() if weight.requires_grad]
        super().__init__(
            parameters,
            lr=lr,
            weight_decay=weight_decay,
            fused=True,
            capturable=parameters[0].is_cuda,
        )

    def set_rate(self, rate: float) -> None:
        """Set the learning rate, where it is a number."""
        for group in self.param_groups:
            group["lr"] = rate


def build_optimiser(
    model: nn.Module, options: ClassifierOptions, rate: float | Tensor
) -> Muon | AdamW:
    """The optimiser of all weights of `model`.

    Muon, for our ResNet alone: for the blocks; stem and head by plain momentum with decay, norms and biases without.
    AdamW: every weight alike, with decay (as TCKR, arXiv 2504.04582, has it for teacher and student).

    Args:
        rate: a number, or a float32 scalar tensor beside the parameters.
    """
    if options.optimiser == "adamw":
        return AdamW(model, rate, options.weight_decay)
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


def cycle(position: float, warmup: float, decay: Decay = "linear") -> float:
    """Share of the peak learning rate at `position` in (0, 1): linear rise, then a fall to 0, straight or as a cosine."""
    if position < warmup:
        return position / warmup
    left = (1 - position) / (1 - warmup)
    return left if decay == "linear" else (1 - math.cos(math.pi * left)) / 2
