"""Adapt a generator to a private set by low-rank updates of its denoiser.

TCKR (arXiv 2504.04582, section 3): LoRA on the UNet, autoencoder and text encoder frozen, one prompt an image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors import SafetensorError
from torch import Tensor

from tckr.diffusion.frames import to_frame
from tckr.diffusion.generator import Denoising, embed, noising, side, to_latents
from tckr.diffusion.options import AdaptationOptions
from tckr.errors import UserError
from tckr.images.tensors import to_signed
from tckr.optimisation import optimise

NAME = "private"
FILE = "pytorch_lora_weights.safetensors"


@dataclass(frozen=True)
class Adapter:
    """LoRA weights of a denoiser, in diffusers' naming."""

    weights: dict[str, Tensor]

    def save(self, folder: Path) -> None:
        """Write `pytorch_lora_weights.safetensors`, as `pipeline.load_lora_weights(folder)` reads it."""
        StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=self.weights)

    @staticmethod
    def load(folder: Path) -> "Adapter":
        """Read the weights back.

        Raises:
            UserError: there are none, or the file is broken.
        """
        from safetensors.torch import load_file

        file = Path(folder) / FILE
        try:
            weights = load_file(file)
        except (FileNotFoundError, SafetensorError) as error:
            raise UserError(
                f"Adapter {file} cannot be read: {error}.", "run generator_adaptation again."
            ) from error
        return Adapter({name.removeprefix("unet."): tensor for name, tensor in weights.items()})

    def apply(self, pipeline: StableDiffusionPipeline) -> StableDiffusionPipeline:
        """Merge the updates into the pipeline's own weights, which sampling then reads at no extra cost."""
        pipeline.load_lora_weights(
            {f"unet.{name}": tensor for name, tensor in self.weights.items()}
        )
        pipeline.fuse_lora(components=["unet"])
        pipeline.unload_lora_weights()
        return pipeline


def adapt(
    pipeline: StableDiffusionPipeline,
    images: Tensor,
    prompts: Sequence[str],
    class_names: Sequence[str],
    options: AdaptationOptions,
    seed: int,
) -> tuple[Adapter, pd.DataFrame]:
    """Fit an adapter to labelled, captioned images; the pipeline is left as it was.

    Args:
        images: uint8 (N, C, H, W).
        prompts: N prompts.
        class_names: N class names.

    Returns:
        the adapter and the loss curve (step, loss).
    """
    torch.manual_seed(seed)
    device = pipeline.device
    frames = to_signed(to_frame(images, side(pipeline)))
    latents = to_latents(pipeline, frames)
    if options.flip:
        latents = torch.cat([latents, to_latents(pipeline, frames.flip(3))])
    wordings = torch.stack(
        [embed(pipeline, words) for words in (prompts, class_names, [""] * len(images))]
    )  # (3, N, tokens, width)
    edges = torch.tensor(
        [1 - options.class_only - options.unconditional, 1 - options.unconditional], device=device
    )
    unet, denoising = pipeline.unet, Denoising(noising(pipeline), device)
    lora = LoraConfig(
        r=options.rank,
        lora_alpha=options.rank,
        init_lora_weights="gaussian",
        target_modules=_present(unet, options.target_modules),
    )
    unet.add_adapter(lora, adapter_name=NAME)
    trained = [parameter for parameter in unet.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.data = parameter.data.float()

    def loss() -> Tensor:
        count = options.schedule.batch_size
        chosen = torch.randint(len(latents), (count,), device=device)
        wording = torch.bucketize(torch.rand(count, device=device), edges)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            return denoising(unet, latents[chosen].float(), wordings[wording, chosen % len(images)])

    try:
        losses = optimise(trained, loss, options.schedule, "adaptation", capture=True)
        weights = get_peft_model_state_dict(unet, adapter_name=NAME)
    finally:
        unet.unload_lora()
    adapter = Adapter(
        {name: tensor.detach().float().cpu().contiguous() for name, tensor in weights.items()}
    )
    _check_moved(adapter)
    return adapter, losses


def _present(unet: torch.nn.Module, names: Sequence[str]) -> list[str]:
    """The wanted layers that this denoiser has, by full name."""
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    suffixes = tuple(f".{name}" for name in names)
    return [
        name
        for name, module in unet.named_modules()
        if isinstance(module, kinds) and (name in names or name.endswith(suffixes))
    ]


def _check_moved(adapter: Adapter) -> None:
    """An adapter whose second factors are all zero has learnt nothing and would pass unnoticed."""
    if not any(
        tensor.abs().max() > 0 for name, tensor in adapter.weights.items() if "lora_B" in name
    ):
        raise RuntimeError("The adapter did not move: no gradient reached its weights.")
