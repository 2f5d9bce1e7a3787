"""Embed images and sentences with a CLIP, given as a folder of transformers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoImageProcessor, CLIPModel, CLIPTokenizer

from tckr.engine.loading import OFFLINE, SAFE, check_kind, readable
from tckr.engine.weights import find_variant


class Clip(NamedTuple):
    """A CLIP with its tokenizer and its image processor (`pictures`)."""

    model: CLIPModel
    tokenizer: CLIPTokenizer
    pictures: Any


def load_clip(folder: str | Path, device: str = "cpu") -> Clip:
    """Load a CLIP folder, safetensors only, float32.

    Raises:
        UserError: the folder is missing, incomplete, or holds another kind of model.
    """
    remedy = "give a folder of a transformers CLIPModel with its tokenizer and image processor."
    check_kind(folder, "model_type", ["clip"], remedy)
    with readable(f"CLIP {folder}", remedy):
        model = CLIPModel.from_pretrained(
            folder, dtype=torch.float32, variant=find_variant(folder), **SAFE
        )
        tokenizer = CLIPTokenizer.from_pretrained(folder, **OFFLINE)
        pictures = AutoImageProcessor.from_pretrained(folder, **OFFLINE)
    return Clip(model.to(device).eval(), tokenizer, pictures)


@torch.inference_mode()
def image_embeddings(clip: Clip, images: Tensor, batch_size: int = 250) -> Tensor:
    """Return the embedding of each image, float32 (N, D) on the CPU, rows of length 1.

    Args:
        images: uint8 (N, C, H, W), C 1 or 3, resized by the folder's image processor.
    """
    # Filled in place: many small results between large batches would leave holes in memory, the more the more images.
    found = torch.empty(len(images), clip.model.config.projection_dim)
    parts = images.expand(-1, 3, -1, -1).split(batch_size)
    for part, rows in zip(parts, found.split(batch_size), strict=True):
        prepared = clip.pictures(
            images=part.cpu(), input_data_format="channels_first", return_tensors="pt"
        )
        body = clip.model.vision_model(pixel_values=prepared.pixel_values.to(clip.model.device))
        rows.copy_(clip.model.visual_projection(body.pooler_output))
    return functional.normalize(found)


@torch.inference_mode()
def text_embeddings(clip: Clip, sentences: Sequence[str], batch_size: int = 250) -> Tensor:
    """Return the embedding of each sentence, float32 (N, D) on the CPU, rows of length 1.

    Args:
        sentences: what exceeds the model's length is cut off.
        batch_size: sentences per forward pass.
    """
    found = torch.empty(len(sentences), clip.model.config.projection_dim)
    for start in range(0, len(sentences), batch_size):
        coded = clip.tokenizer(
            list(sentences[start : start + batch_size]),
            padding=True,
            truncation=True,
            max_length=clip.model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        ).to(clip.model.device)
        body = clip.model.text_model(input_ids=coded.input_ids, attention_mask=coded.attention_mask)
        found[start : start + batch_size] = clip.model.text_projection(body.pooler_output)
    return functional.normalize(found)
