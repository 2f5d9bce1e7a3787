"""A captioner is a folder (or hub id) of transformers' BLIP-2; nothing of our own format.

TCKR (arXiv 2504.04582, section 3): one caption a private image, no text prompt, greedy, at most 20 new tokens
with the published model.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from transformers import Blip2ForConditionalGeneration, Blip2Processor

from tckr.errors import UserError
from tckr.progress import track
from tckr.text.options import CaptionOptions


@dataclass(frozen=True)
class Captioner:
    """A BLIP-2 model with its processor."""

    model: Blip2ForConditionalGeneration
    processor: Blip2Processor


def load(source: str, device: str = "cpu") -> Captioner:
    """Load a BLIP-2 captioner, safetensors only; float32 on a CPU, bfloat16 on a GPU.

    Raises:
        UserError: the folder is missing, incomplete, or holds another kind of model.
    """
    folder = Path(source)
    if folder.exists():
        config = folder / "config.json"
        kind = json.loads(config.read_text()).get("model_type") if config.is_file() else None
        if kind != "blip-2":
            raise UserError(
                f"Captioner folder {folder} holds {kind or 'no model'}.",
                "give captioning.captioner a folder of a transformers Blip2ForConditionalGeneration.",
            )
    try:
        model = Blip2ForConditionalGeneration.from_pretrained(
            source,
            dtype=torch.float32 if device == "cpu" else torch.bfloat16,
            use_safetensors=True,
            local_files_only=True,
        )
        processor = Blip2Processor.from_pretrained(source, local_files_only=True)
    except (OSError, ValueError) as error:
        raise UserError(
            f"Captioner '{source}' could not be loaded: {str(error).splitlines()[0]}",
            "give captioning.captioner a folder of a BLIP-2 model with safetensors weights, or download the hub "
            "model first.",
        ) from error
    return Captioner(model.to(device).eval(), processor)


@torch.inference_mode()
def caption(captioner: Captioner, images: Tensor, options: CaptionOptions) -> list[str]:
    """One greedy caption an image.

    Args:
        images: uint8 (N, C, H, W), C 1 or 3.

    Returns:
        N captions, lower case, single spaces.
    """
    device, dtype = captioner.model.device, captioner.model.dtype
    captions: list[str] = []
    parts = images.expand(-1, 3, -1, -1).split(options.batch_size)
    for part in track(parts, "captions"):
        pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in part]
        inputs = captioner.processor(images=pictures, return_tensors="pt").to(device, dtype)
        tokens = captioner.model.generate(
            **inputs, max_new_tokens=options.max_new_tokens, do_sample=False
        )
        captions += captioner.processor.batch_decode(tokens, skip_special_tokens=True)
    return [tidy(text) for text in captions]


def tidy(text: str) -> str:
    """Single spaces, none before punctuation, lower case."""
    return re.sub(r"\s+([,.:;!?])", r"\1", " ".join(text.lower().split()))


def captions_table(
    ids: Sequence[str], class_names: Sequence[str], captions: Sequence[str]
) -> pd.DataFrame:
    """Captions with the prompts that adapt the generator: `"{class}: {caption}"` (TCKR, section 3)."""
    return pd.DataFrame(
        {
            "image_id": list(ids),
            "class_name": list(class_names),
            "caption": list(captions),
            "prompt": [f"{name}: {text}" for name, text in zip(class_names, captions, strict=True)],
        }
    )
