"""What full fine-tuning made of a denoiser: an update of every weight, merged and saved as an adapter is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

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
