"""One tiny generator of random weights a family, saved as the folder that a user would give."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

import miniatures

SCHEDULES = {
    "sd1": ("PNDMScheduler", {"prediction_type": "epsilon", "skip_prk_steps": True}),
    "sd2": ("DDIMScheduler", {"prediction_type": "v_prediction", "set_alpha_to_one": False}),
    "turbo": (
        "EulerDiscreteScheduler",
        {"prediction_type": "epsilon", "timestep_spacing": "trailing"},
    ),
    "xl": ("EulerDiscreteScheduler", {"prediction_type": "epsilon", "steps_offset": 1}),
}


def build(family: str) -> Any:
    """Latents of 8 x 8 x 4, images of 16 pixels, text of width 32 (two encoders: 32 + 16)."""
    torch.manual_seed(0)
    words, xl = miniatures.tokenizer(), family == "xl"
    name, details = SCHEDULES[family]
    scheduler = getattr(diffusers, name)(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, **details
    )
    unet = diffusers.UNet2DConditionModel(
        sample_size=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(16, 32),
        layers_per_block=2,
        norm_num_groups=8,
        cross_attention_dim=48 if xl else 32,
        attention_head_dim=2 if family == "sd1" else (2, 4),
        use_linear_projection=family != "sd1",
        **({"addition_embed_type": "text_time", "addition_time_embed_dim": 4, "projection_class_embeddings_input_dim": 16 + 6 * 4} if xl else {}),
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
    )

    def text(width: int, kind: type) -> Any:
        return kind(
            CLIPTextConfig(
                vocab_size=len(words),
                hidden_size=width,
                intermediate_size=2 * width,
                projection_dim=width,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=words.model_max_length,
                bos_token_id=words.bos_token_id,
                eos_token_id=words.eos_token_id,
                pad_token_id=words.pad_token_id,
            )
        ).eval()

    parts = {"unet": unet.eval(), "vae": vae.eval(), "scheduler": scheduler}
    if xl:
        return diffusers.StableDiffusionXLPipeline(
            **parts,
            tokenizer=words,
            tokenizer_2=words,
            text_encoder=text(32, CLIPTextModel),
            text_encoder_2=text(16, CLIPTextModelWithProjection),
            add_watermarker=False,
        )
    return diffusers.StableDiffusionPipeline(
        **parts,
        tokenizer=words,
        text_encoder=text(32, CLIPTextModel),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a family's generator."""
    root = tmp_path_factory.mktemp("families")

    def folder(family: str) -> Path:
        if not (root / family).exists():
            build(family).save_pretrained(root / family)
        return root / family

    return folder
