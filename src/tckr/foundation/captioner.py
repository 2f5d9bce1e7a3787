"""Train the two vision-language miniatures: a BLIP-2 captioner and a CLIP text-and-image encoder."""

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipImageProcessorPil,
    CLIPConfig,
    CLIPModel,
    CLIPTokenizer,
)

from tckr.engine.checkpoint import Checkpoint, data_identity
from tckr.images.tensors import to_signed
from tckr.options import Options, Schedule
from tckr.training.loop import minimize

MEAN = (0.5, 0.5, 0.5)


class CaptionerShape(Options):
    """Sizes of the captioner miniature."""

    image_size: int = 32
    patch_size: int = 4
    vision_width: int = 96
    vision_layers: int = 4
    queries: int = 8
    query_width: int = 96
    query_layers: int = 2
    text_width: int = 128
    text_layers: int = 3


class ClipShape(Options):
    """Sizes of the CLIP miniature."""

    image_size: int = 32
    patch_size: int = 4
    vision_width: int = 128
    vision_layers: int = 4
    text_width: int = 128
    text_layers: int = 2
    projection: int = 128


class SeeingRecipe(Options):
    """Shapes and schedules of captioner and CLIP."""

    captioner: CaptionerShape
    captioner_schedule: Schedule
    clip: ClipShape
    clip_schedule: Schedule


def build_captioner(
    tokenizer: CLIPTokenizer, shape: CaptionerShape
) -> Blip2ForConditionalGeneration:
    """Return an untrained BLIP-2 of the given shape, with `tokenizer`'s vocabulary plus the image token."""
    vocabulary, image_token = len(tokenizer) + 1, len(tokenizer)
    config = Blip2Config(
        vision_config={
            "hidden_size": shape.vision_width,
            "intermediate_size": 4 * shape.vision_width,
            "num_hidden_layers": shape.vision_layers,
            "num_attention_heads": 4,
            "image_size": shape.image_size,
            "patch_size": shape.patch_size,
        },
        qformer_config={
            "hidden_size": shape.query_width,
            "intermediate_size": 4 * shape.query_width,
            "num_hidden_layers": shape.query_layers,
            "num_attention_heads": 4,
            "encoder_hidden_size": shape.vision_width,
            "vocab_size": vocabulary,
            "cross_attention_frequency": 1,
        },
        text_config={
            "model_type": "opt",
            "vocab_size": vocabulary,
            "hidden_size": shape.text_width,
            "word_embed_proj_dim": shape.text_width,
            "ffn_dim": 4 * shape.text_width,
            "num_hidden_layers": shape.text_layers,
            "num_attention_heads": 4,
            "max_position_embeddings": tokenizer.model_max_length + shape.queries + 2,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "dropout": 0.0,
        },
        num_query_tokens=shape.queries,
        image_token_index=image_token,
    )
    model = Blip2ForConditionalGeneration(config)
    model.generation_config.bos_token_id = tokenizer.bos_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def build_processor(tokenizer: CLIPTokenizer, shape: CaptionerShape) -> Blip2Processor:
    """Return a processor that resizes to the captioner's image size, scales to [-1, 1] and prepends the image tokens."""
    pictures = BlipImageProcessorPil(
        size={"height": shape.image_size, "width": shape.image_size},
        image_mean=MEAN,
        image_std=MEAN,
    )
    return Blip2Processor(pictures, tokenizer, num_query_tokens=shape.queries)


def train_captioner(
    images: Tensor,
    tokens: Tensor,
    tokenizer: CLIPTokenizer,
    recipe: SeeingRecipe,
    device: str,
    seed: int,
    checkpoint: Checkpoint | None = None,
) -> tuple[Blip2ForConditionalGeneration, pd.DataFrame]:
    """Train a captioner from scratch by next-token prediction after the image's query tokens.

    Args:
        images: uint8 (N, 3, size, size).
        tokens: caption ids (N, L) with start and end tokens, padded with the end token.
        checkpoint: where unfinished training is saved, and resumed from.

    Returns:
        The model (float32, on the CPU) and its loss curve (nats per token).

    Raises:
        Paused: the checkpoint's deadline has passed.
    """
    torch.manual_seed(seed)
    identity = data_identity(recipe.model_dump(), images, tokens)
    model = build_captioner(tokenizer, recipe.captioner).to(device).train()
    images, tokens = images.to(device), tokens.to(device)
    queries, end = recipe.captioner.queries, tokenizer.eos_token_id

    def loss() -> Tensor:
        chosen = torch.randint(len(images), (recipe.captioner_schedule.batch_size,), device=device)
        caption = tokens[chosen].long()
        placeholder = caption.new_full((len(chosen), queries), model.config.image_token_index)
        after_end = (caption == end).cumsum(1) > 1  # padding: everything after the first end token
        labels = torch.cat(
            [torch.full_like(placeholder, -100), caption.masked_fill(after_end, -100)], 1
        )
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            logits = model(
                pixel_values=to_signed(images[chosen]),
                input_ids=torch.cat([placeholder, caption], 1),
                attention_mask=torch.cat([torch.ones_like(placeholder), (~after_end).long()], 1),
            ).logits
        return functional.cross_entropy(
            logits[:, :-1].float().flatten(0, 1), labels[:, 1:].flatten()
        )

    losses = minimize(
        list(model.parameters()),
        loss,
        recipe.captioner_schedule,
        "captioner",
        checkpoint=checkpoint,
        identity=identity,
    )
    return model.float().cpu().eval(), losses


def train_clip(
    images: Tensor,
    tokens: Tensor,
    tokenizer: CLIPTokenizer,
    recipe: SeeingRecipe,
    device: str,
    seed: int,
    checkpoint: Checkpoint | None = None,
) -> tuple[CLIPModel, pd.DataFrame]:
    """Train a CLIP from scratch by the symmetric contrastive loss (Radford et al. 2021, figure 3).

    Args:
        images: uint8 (N, 3, size, size).
        tokens: ids (V, N, L): V wordings of each image; each step draws one at random.
        checkpoint: where unfinished training is saved, and resumed from.

    Returns:
        The model (float32, on the CPU) and its loss curve.

    Raises:
        Paused: the checkpoint's deadline has passed.
    """
    torch.manual_seed(seed)
    shape, identity = recipe.clip, data_identity(recipe.model_dump(), images, tokens)
    model = CLIPModel(
        CLIPConfig(
            text_config={
                "vocab_size": len(tokenizer),
                "hidden_size": shape.text_width,
                "intermediate_size": 4 * shape.text_width,
                "num_hidden_layers": shape.text_layers,
                "num_attention_heads": 4,
                "max_position_embeddings": tokenizer.model_max_length,
                "bos_token_id": tokenizer.bos_token_id,
                "eos_token_id": tokenizer.eos_token_id,
                "pad_token_id": tokenizer.pad_token_id,
            },
            vision_config={
                "hidden_size": shape.vision_width,
                "intermediate_size": 4 * shape.vision_width,
                "num_hidden_layers": shape.vision_layers,
                "num_attention_heads": 4,
                "image_size": shape.image_size,
                "patch_size": shape.patch_size,
            },
            projection_dim=shape.projection,
        )
    ).to(device)
    model.train()
    images, tokens = images.to(device), tokens.to(device)

    def loss() -> Tensor:
        chosen = torch.randint(len(images), (recipe.clip_schedule.batch_size,), device=device)
        wording = torch.randint(len(tokens), (len(chosen),), device=device)
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            scores = model(
                input_ids=tokens[wording, chosen].long(), pixel_values=to_signed(images[chosen])
            ).logits_per_text.float()
        target = torch.arange(len(chosen), device=device)
        return (
            functional.cross_entropy(scores, target) + functional.cross_entropy(scores.T, target)
        ) / 2

    losses = minimize(
        list(model.parameters()),
        loss,
        recipe.clip_schedule,
        "clip",
        checkpoint=checkpoint,
        identity=identity,
    )
    return model.float().cpu().eval(), losses
