"""Stable Diffusion 2 of true size with random weights, and what it is fed: speed does not depend on the values."""

import copy
import io
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from torch import Tensor
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel

from tckr.foundation.tokenizer import train_tokenizer
from tckr.images.tensors import to_png

WORDS = "a small large red green plain woollen shirt boot dress bag on white table near the window with two stripes"


@dataclass(frozen=True)
class Size:
    """Geometry; the defaults are those of `stabilityai/stable-diffusion-2-base`, asked for 224 pixels.

    Attributes:
        side: of the images, pixels.
        denoiser: channels by resolution.
        heads: attention heads by resolution.
        layers: residual blocks by resolution.
        autoencoder: channels by resolution.
        text: width, inner width, layers and heads of the text encoder.
        vocabulary: tokens of the text encoder.
        tokens: of a prompt.
        groups: of the normalisation.
        matrix: side of the square matrices that measure the card.
    """

    side: int = 224
    denoiser: tuple[int, ...] = (320, 640, 1280, 1280)
    heads: tuple[int, ...] = (5, 10, 20, 20)
    layers: int = 2
    autoencoder: tuple[int, ...] = (128, 256, 512, 512)
    text: tuple[int, int, int, int] = (1024, 4096, 23, 16)
    vocabulary: int = 49408
    tokens: int = 77
    groups: int = 32
    matrix: int = 8192


SMALL = Size(32, (16, 32), (2, 2), 1, (16, 16), (32, 64, 2, 2), 1024, 24, 8, 256)


def build(size: Size, device: str, dtype: torch.dtype) -> StableDiffusionPipeline:
    """The pipeline as `tckr.diffusion.pipeline.load` gives it, made on the device; "meta" makes shapes only."""
    scale = 2 ** (len(size.autoencoder) - 1)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            unet, vae = _denoiser(size, size.side // scale), _autoencoder(size)
            text = CLIPTextModel(_text_config(size))
    finally:
        torch.set_default_dtype(before)
    with torch.no_grad():  # a narrow posterior, as a trained autoencoder has
        vae.quant_conv.bias[vae.config.latent_channels :] = -8
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=train_tokenizer([WORDS] * 20, 1024, size.tokens),
        unet=unet,
        scheduler=PNDMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            skip_prk_steps=True,
            set_alpha_to_one=False,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    for part in modules(pipeline):
        part.requires_grad_(False).eval()
    unet.to(memory_format=torch.channels_last)
    if device == "cuda":
        vae.to(memory_format=torch.channels_last)
    return pipeline


def _denoiser(size: Size, latents: int) -> UNet2DConditionModel:
    deeper = len(size.denoiser) - 1
    return UNet2DConditionModel(
        sample_size=latents,
        block_out_channels=size.denoiser,
        layers_per_block=size.layers,
        down_block_types=("CrossAttnDownBlock2D",) * deeper + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * deeper,
        attention_head_dim=size.heads,  # the number of heads, by diffusers' history
        cross_attention_dim=size.text[0],
        norm_num_groups=size.groups,
        use_linear_projection=True,
    )


def _autoencoder(size: Size) -> AutoencoderKL:
    count = len(size.autoencoder)
    return AutoencoderKL(
        block_out_channels=size.autoencoder,
        layers_per_block=size.layers,
        down_block_types=("DownEncoderBlock2D",) * count,
        up_block_types=("UpDecoderBlock2D",) * count,
        norm_num_groups=size.groups,
        sample_size=size.side,
    )


def _text_config(size: Size) -> CLIPTextConfig:
    width, inner, layers, heads = size.text
    return CLIPTextConfig(
        vocab_size=size.vocabulary,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=size.tokens,
        hidden_act="gelu",
    )


def modules(pipeline: Any) -> list[torch.nn.Module]:
    """The three networks."""
    return [pipeline.unet, pipeline.vae, pipeline.text_encoder]


def as_published(pipeline: Any) -> StableDiffusionPipeline:
    """The same weights in float16 (on a CPU as they are), laid out as they come."""
    parts = dict(pipeline.components)
    for name in ("unet", "vae", "text_encoder"):
        module = copy.deepcopy(parts[name])
        parts[name] = module.half() if pipeline.device.type == "cuda" else module
    for name in ("unet", "vae"):
        parts[name].to(memory_format=torch.contiguous_format)
    published = StableDiffusionPipeline(**parts, requires_safety_checker=False)
    published.set_progress_bar_config(disable=True)
    return published


def precision(pipeline: Any) -> str:
    """Name of the weights' type."""
    return str(pipeline.unet.dtype).removeprefix("torch.")


def pictures(count: int, side: int) -> Tensor:
    """Smooth images with some noise, uint8 (count, 3, side, side)."""
    parts = []
    for start in range(0, count, 256):
        coarse = torch.rand(min(256, count - start), 3, 8, 8)
        smooth = functional.interpolate(coarse, (side, side), mode="bilinear") * 255
        parts.append((smooth + 8 * torch.randn_like(smooth)).clamp(0, 255).byte())
    return torch.cat(parts)


def files(images: Tensor) -> list[Image.Image]:
    """The images as a data set of files holds them: PNG, opened, not decoded."""
    return [Image.open(io.BytesIO(content)) for content in to_png(images)]


def prompts(count: int) -> list[str]:
    """As many distinct prompts of the published form."""
    words = WORDS.split()
    return [
        f"{words[7 + i % 4]}: a {words[i % 7]} {words[7 + i % 4]} on the table, number {i}"
        for i in range(count)
    ]
