"""Train the generator miniature: the autoencoder first, then text encoder and denoiser together.

Rombach et al. 2022 (latent diffusion) at 32 pixels, with v-prediction and a schedule that ends in pure noise
(Lin et al. 2024, arXiv 2305.08891).
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from pydantic import Field
from torch import Tensor
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tckr.diffusion.embeddings import PromptEmbeds
from tckr.diffusion.loss import DenoisingLoss
from tckr.engine.checkpoint import Checkpoint, Checkpoints, data_identity
from tckr.images.tensors import to_signed
from tckr.options import Options, Schedule
from tckr.training.loop import minimize


class GeneratorShape(Options):
    """Sizes of the three networks of the miniature."""

    image_size: int = 32
    latent_channels: int = 16
    autoencoder_widths: tuple[int, ...] = Field(
        (32, 64, 96), description="channels of each level; each after the first halves the side"
    )
    denoiser_widths: tuple[int, ...] = (96, 144)
    attend_from: int = Field(
        0, ge=0, description="first level of the denoiser with cross-attention to the text"
    )
    text_width: int = 160
    text_layers: int = 2
    heads: int = 4


class GeneratorRecipe(Options):
    """Shape and schedules of the generator miniature."""

    shape: GeneratorShape
    autoencoder: Schedule
    denoiser: Schedule
    kl_weight: float = Field(
        0.0015, ge=0, description="weight of the latent's KL divergence, summed per image"
    )


def train_generator(
    images: Tensor,
    tokens: Tensor,
    tokenizer: CLIPTokenizer,
    recipe: GeneratorRecipe,
    device: str,
    seed: int,
    checkpoints: Checkpoints | None = None,
) -> tuple[StableDiffusionPipeline, dict[str, pd.DataFrame]]:
    """Train the miniature on public images.

    Args:
        images: uint8 (N, 3, size, size).
        tokens: token ids (V, N, L): V wordings of each image; each step draws one at random.
        checkpoints: where unfinished training is saved, and resumed from.

    Returns:
        The pipeline (float32, on the CPU) and the loss curve of each part.

    Raises:
        Paused: the checkpoints' deadline has passed.
    """
    torch.manual_seed(seed)
    pipeline = build_generator(tokenizer, recipe.shape)
    # Of the images, not of the latents, which a GPU may compute a little differently the next time.
    identity = data_identity(recipe.model_dump(), images, tokens)
    images = images.to(device)
    keep = checkpoints.of if checkpoints else lambda _: None
    vae_losses = train_autoencoder(pipeline.vae, images, recipe, keep("autoencoder"), identity)
    latents = _latents(pipeline.vae, images)
    losses = train_denoiser(
        pipeline, latents, tokens.to(device), recipe, keep("denoiser"), identity
    )
    return pipeline.to("cpu"), {"autoencoder": vae_losses, "denoiser": losses}


def build_generator(tokenizer: CLIPTokenizer, shape: GeneratorShape) -> StableDiffusionPipeline:
    """Return an untrained miniature with `tokenizer`'s vocabulary."""
    widths, levels = shape.autoencoder_widths, len(shape.denoiser_widths)
    reads = [level >= shape.attend_from for level in range(levels)]
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        block_out_channels=widths,
        layers_per_block=1,
        latent_channels=shape.latent_channels,
        norm_num_groups=16,
        sample_size=shape.image_size,
        mid_block_add_attention=False,
    )
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=shape.text_width,
            intermediate_size=4 * shape.text_width,
            num_hidden_layers=shape.text_layers,
            num_attention_heads=shape.heads,
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=shape.image_size // 2 ** (len(widths) - 1),
        in_channels=shape.latent_channels,
        out_channels=shape.latent_channels,
        down_block_types=["CrossAttnDownBlock2D" if read else "DownBlock2D" for read in reads],
        up_block_types=["CrossAttnUpBlock2D" if read else "UpBlock2D" for read in reads[::-1]],
        block_out_channels=shape.denoiser_widths,
        layers_per_block=1,
        cross_attention_dim=shape.text_width,
        attention_head_dim=shape.heads,
        norm_num_groups=16,
    )
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DPMSolverMultistepScheduler.from_config(
            _schedule().config, algorithm_type="dpmsolver++"
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _schedule() -> DDPMScheduler:
    return DDPMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        rescale_betas_zero_snr=True,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
        steps_offset=1,
    )


def train_autoencoder(
    vae: AutoencoderKL,
    images: Tensor,
    recipe: GeneratorRecipe,
    checkpoint: Checkpoint | None = None,
    identity: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Train the autoencoder and set the scaling factor of its latents.

    The loss is L1 + 2 MSE + 0.5 L1 of the image gradients + `kl_weight` KL.

    Args:
        images: uint8 (N, 3, size, size); `vae` moves to their device.
        checkpoint: where unfinished training is saved, and resumed from.
        identity: what the checkpoint is of; see `tckr.training.loop.minimize`.

    Returns:
        The loss curve.
    """
    device = images.device.type
    vae.to(images.device, memory_format=torch.channels_last).train()
    encoder, decoder = vae.encoder, vae.decoder
    if device == "cuda":
        encoder, decoder = torch.compile(encoder), torch.compile(decoder)

    def loss() -> Tensor:
        batch = images[torch.randint(len(images), (recipe.autoencoder.batch_size,), device=device)]
        target = to_signed(batch)
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            mean, log_variance = vae.quant_conv(encoder(target)).float().chunk(2, 1)
            deviation = (0.5 * log_variance.clamp(-30, 20)).exp()
            latent = mean + deviation * torch.randn_like(mean)
            rebuilt = decoder(vae.post_quant_conv(latent)).float()
        kl = 0.5 * (mean**2 + deviation**2 - 2 * deviation.log() - 1).sum((1, 2, 3)).mean()
        edges = sum(
            functional.l1_loss(rebuilt.diff(dim=axis), target.diff(dim=axis)) for axis in (2, 3)
        )
        return (
            functional.l1_loss(rebuilt, target)
            + 2 * functional.mse_loss(rebuilt, target)
            + 0.5 * edges
            + recipe.kl_weight * kl / target[0].numel()
        )

    losses = minimize(
        list(vae.parameters()),
        loss,
        recipe.autoencoder,
        "autoencoder",
        capture=True,
        checkpoint=checkpoint,
        identity=identity,
    )
    sample = images[torch.randperm(len(images), device=device)[:4096]]
    vae.register_to_config(scaling_factor=float(1 / _encode(vae.eval(), sample).std()))
    return losses


@torch.no_grad()
def _encode(vae: AutoencoderKL, images: Tensor) -> Tensor:
    return torch.cat([vae.encode(to_signed(part)).latent_dist.mean for part in images.split(1024)])


def _latents(vae: AutoencoderKL, images: Tensor) -> Tensor:
    return (_encode(vae, images) * vae.config.scaling_factor).half()


def train_denoiser(
    pipeline: StableDiffusionPipeline,
    latents: Tensor,
    tokens: Tensor,
    recipe: GeneratorRecipe,
    checkpoint: Checkpoint | None = None,
    identity: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Train denoiser and text encoder with the denoising loss alone.

    Args:
        latents: (N, C, h, w), scaled to unit variance; the networks move to their device.
        tokens: token ids (V, N, L), same device.
        checkpoint: where unfinished training is saved, and resumed from.
        identity: what the checkpoint is of; see `tckr.training.loop.minimize`.

    Returns:
        The loss curve.
    """
    device = latents.device.type
    unet = pipeline.unet.to(latents.device, memory_format=torch.channels_last).train()
    text = pipeline.text_encoder.to(latents.device).train()
    network = torch.compile(unet) if device == "cuda" else unet
    denoising_loss = DenoisingLoss(_schedule(), latents.device)

    def loss() -> Tensor:
        count = recipe.denoiser.batch_size
        chosen = torch.randint(len(latents), (count,), device=device)
        wording = torch.randint(len(tokens), (count,), device=device)
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            words = text(tokens[wording, chosen].long())[0]
            return denoising_loss(network, latents[chosen].float(), PromptEmbeds(words))

    parameters = [*unet.parameters(), *text.parameters()]
    losses = minimize(
        parameters,
        loss,
        recipe.denoiser,
        "denoiser",
        capture=True,
        checkpoint=checkpoint,
        identity=identity,
    )
    unet.eval(), text.eval()
    return losses
