"""What full fine-tuning made of a denoiser: an update of every weight, merged and saved as an adapter is."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors.torch import save_file
from torch import Tensor

from tckr.diffusion.adapter import Adapter, merge, read_weights
from tckr.errors import UserError

FILE = "denoiser_update.safetensors"


@dataclass(frozen=True)
class DenoiserUpdate:
    """What is added to the weights of a denoiser.

    Attributes:
        weights: float32, by the parameter's name in diffusers' UNet.
    """

    weights: dict[str, Tensor]

    def save(self, folder: Path) -> None:
        """Write `denoiser_update.safetensors`."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: each.contiguous() for name, each in self.weights.items()}, folder / FILE)

    @staticmethod
    def load(folder: Path) -> "DenoiserUpdate":
        """Read what `save` wrote.

        Raises:
            UserError: the file is missing or broken.
        """
        return DenoiserUpdate(read_weights(folder / FILE)[0])

    def check(self, unet: Any) -> None:
        """Check that the generator has every weight, in the same shape.

        Raises:
            UserError: an update does not fit; the message names the first.
        """
        shapes = {name: tuple(each.shape) for name, each in unet.named_parameters()}
        for name, update in self.weights.items():
            if shapes.get(name) != tuple(update.shape):
                raise UserError(
                    f"The update of {name} has shape {tuple(update.shape)}, the generator's weight"
                    f" {shapes.get(name, 'is missing')}.",
                    "use the generator that the update was made for.",
                )

    def apply(self, pipeline: Any) -> Any:
        """Add the update to the pipeline's weights, and return the pipeline.

        Raises:
            UserError: an update does not fit; nothing was changed.
        """
        self.check(pipeline.unet)
        weights = dict(pipeline.unet.named_parameters())
        merge((weights[name].data, update) for name, update in self.weights.items())
        return pipeline


Adaptation: TypeAlias = Adapter | DenoiserUpdate
"""What turns a base generator into an adapted one: `apply(pipeline)` merges it in, `save(folder)` writes it."""


def joined(updates: Sequence[Adaptation]) -> Adaptation:
    """Return the one update that does what several do, merged in one after another: they add up.

    Of low rank, factors are put side by side, (B1 B2) (A1; A2) = B1 A1 + B2 A2, and ranks add; with a full update among them
    the sum is a full one.

    Args:
        updates: at least one; full ones name the same weights.

    >>> one = Adapter({"q.lora_A.weight": torch.ones(1, 3), "q.lora_B.weight": torch.ones(2, 1)})
    >>> both = joined([one, one])
    >>> both.weights["q.lora_A.weight"].shape, both.weights["q.lora_B.weight"].shape
    (torch.Size([2, 3]), torch.Size([2, 2]))
    """
    if len(updates) == 1:
        return updates[0]
    low = [each for each in updates if isinstance(each, Adapter)]
    full = [each for each in updates if isinstance(each, DenoiserUpdate)]
    if not full:
        names = dict.fromkeys(name for each in low for name in each.weights)
        return Adapter(
            {
                name: torch.cat(
                    [each.weights[name] for each in low if name in each.weights],
                    0 if name.endswith(".lora_A.weight") else 1,
                )
                for name in names
            }
        )
    weights = {
        name: sum((e.weights[name] for e in full[1:]), w) for name, w in full[0].weights.items()
    }
    for layer, first, second in (factors for each in low for factors in each.factors()):
        name = f"{layer}.weight"
        weights[name] = weights[name] + (second.flatten(1) @ first.flatten(1)).view_as(
            weights[name]
        )
    return DenoiserUpdate(weights)
