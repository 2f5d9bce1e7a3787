"""A generator is a folder (or hub id) of the diffusers class StableDiffusionPipeline; nothing of our own format."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline
from torch import Tensor
from torch.nn import functional

from tckr.errors import UserError

PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")


def load(source: str, device: str = "cpu") -> StableDiffusionPipeline:
    """Load a text-to-image pipeline, safetensors only, ready to run on `device`.

    Weights are float32 on a CPU and bfloat16 on a GPU.

    Args:
        source: a local folder, or a hub id that is already in the local cache.

    Raises:
        UserError: the folder is missing, incomplete, or holds another kind of model.
    """
    folder = Path(source)
    if folder.exists():
        _check(folder)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    try:
        pipeline = StableDiffusionPipeline.from_pretrained(
            source,
            dtype=dtype,
            use_safetensors=True,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
            local_files_only=True,
        )
    except (OSError, ValueError) as error:
        raise UserError(
            f"Generator '{source}' could not be loaded: {str(error).splitlines()[0]}",
            "give generator_adaptation.generator a folder of a diffusers StableDiffusionPipeline with safetensors "
            "weights, or download the hub model first.",
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to(device)
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        part.requires_grad_(False).eval()
    pipeline.unet.to(memory_format=torch.channels_last)
    return pipeline


def _check(folder: Path) -> None:
    index = folder / "model_index.json"
    if not index.is_file():
        raise UserError(
            f"Generator folder {folder} has no model_index.json.",
            "point to a folder written by a diffusers pipeline's save_pretrained.",
        )
    kind = json.loads(index.read_text()).get("_class_name")
    if kind != "StableDiffusionPipeline":
        raise UserError(
            f"Generator folder {folder} holds a {kind}.",
            "give one of class StableDiffusionPipeline.",
        )
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if missing:
        raise UserError(
            f"Generator folder {folder} lacks {', '.join(missing)}.", "copy the whole folder again."
        )


def side(pipeline: StableDiffusionPipeline) -> int:
    """Side of the generator's square images, pixels."""
    return int(pipeline.unet.config.sample_size * pipeline.vae_scale_factor)


@torch.no_grad()
def embed(
    pipeline: StableDiffusionPipeline, prompts: Sequence[str], batch_size: int = 256
) -> Tensor:
    """Text embeddings (N, tokens, width); each distinct prompt is encoded once.

    The result's rows follow `prompts`.
    """
    distinct = list(dict.fromkeys(prompts))
    tokens = pipeline.tokenizer(
        distinct,
        padding="max_length",
        truncation=True,
        max_length=pipeline.tokenizer.model_max_length,
        return_tensors="pt",
    ).input_ids.to(pipeline.device)
    rows = torch.cat([pipeline.text_encoder(part)[0] for part in tokens.split(batch_size)])
    place = {prompt: index for index, prompt in enumerate(distinct)}
    return rows[torch.tensor([place[prompt] for prompt in prompts], device=rows.device)]


@torch.no_grad()
def to_latents(pipeline: StableDiffusionPipeline, frames: Tensor, batch_size: int = 256) -> Tensor:
    """Scaled latents of signed images.

    Args:
        frames: float (N, 3, side, side) in [-1, 1].
    """
    vae = pipeline.vae
    parts = [
        vae.encode(part.to(vae.device, vae.dtype)).latent_dist.mean * vae.config.scaling_factor
        for part in frames.split(batch_size)
    ]
    return torch.cat(parts)


def noising(pipeline: StableDiffusionPipeline) -> DDPMScheduler:
    """The forward process that the generator was trained with."""
    return DDPMScheduler.from_config(pipeline.scheduler.config)


class Denoising:
    """The denoising loss of a batch (Ho et al. 2020, eq. 14; v-prediction: Salimans & Ho 2022, section 4)."""

    def __init__(self, scheduler: DDPMScheduler, device: torch.device) -> None:
        self.signal = scheduler.alphas_cumprod.to(device).sqrt()
        self.noise = (1 - scheduler.alphas_cumprod.to(device)).sqrt()
        self.prediction = scheduler.config.prediction_type

    def stratified_steps(self, count: int) -> Tensor:
        """`count` timesteps, one from each equal part of the schedule: less variance than independent ones."""
        steps = len(self.signal)
        device = self.signal.device
        return (
            (torch.arange(count, device=device) + torch.rand(count, device=device)) / count * steps
        ).long()

    def __call__(self, unet: Callable[..., Any], latents: Tensor, text: Tensor) -> Tensor:
        """Mean squared error of the network's prediction; latents (N, C, h, w), text (N, tokens, width)."""
        steps = self.stratified_steps(len(latents))
        noise = torch.randn_like(latents)
        a, b = self.signal[steps, None, None, None], self.noise[steps, None, None, None]
        noisy = a * latents + b * noise
        target = {"epsilon": noise, "v_prediction": a * noise - b * latents, "sample": latents}[
            self.prediction
        ]
        predicted = unet(noisy.to(text.dtype), steps, text, return_dict=False)[0]
        return functional.mse_loss(predicted.float(), target.float())
