"""Generators that know their images by heart: a tiny one, and plain training on a few images until it does."""

from collections.abc import Sequence

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from tckr.diffusion.embeddings import encode_prompts
from tckr.diffusion.latents import encode_images
from tckr.diffusion.loss import DenoisingLoss, noise_schedule


def smooth_images(count: int, side: int) -> Tensor:
    """Return grey images, uint8 (count, 1, side, side), which a random autoencoder tells apart."""
    coarse = torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    return (torch.nn.functional.interpolate(coarse, (side, side)) * 255).to(torch.uint8)


def spread_latents(pipeline: StableDiffusionPipeline, images: Tensor) -> None:
    """Make a random autoencoder's latents of these images as wide as a trained one's: standard deviation 1."""
    spread = torch.cat(list(encode_images(pipeline, images))).std(0).mean().item()
    factor = pipeline.vae.config.scaling_factor / spread
    pipeline.vae.register_to_config(scaling_factor=factor)


def learn_by_heart(
    pipeline: StableDiffusionPipeline, images: Tensor, prompts: Sequence[str], steps: int = 150
) -> None:
    """Train every weight of the pipeline's denoiser on these images alone, without clipping or noise."""
    unet = pipeline.unet.requires_grad_(True).train()
    latents = torch.cat(list(encode_images(pipeline, images)))
    words = encode_prompts(pipeline, prompts)
    loss = DenoisingLoss(noise_schedule(pipeline), latents.device)
    optimiser = torch.optim.Adam(unet.parameters(), 4e-3)
    for _ in range(steps):
        optimiser.zero_grad()
        loss(unet, latents, words).backward()
        optimiser.step()
    unet.requires_grad_(False).eval()
