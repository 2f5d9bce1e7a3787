"""A BLIP-2 of true size with random weights, its processor, and photographs of a sort."""

import copy
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.nn import functional as F
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipImageProcessor,
    PreTrainedTokenizerFast,
)

from tckr.images.tensors import in_threads


@dataclass(frozen=True)
class Size:
    """Geometry of a BLIP-2 and of its images; the defaults are those of blip2-opt-2.7b."""

    side: int = 224
    patch: int = 14
    vision: tuple[int, int, int, int] = (1408, 6144, 39, 16)  # width, inner width, layers, heads
    queries: int = 32
    qformer: tuple[int, int, int, int] = (768, 3072, 12, 12)
    text: tuple[int, int, int, int] = (2560, 10240, 32, 32)
    vocabulary: int = 50304
    matrix: int = 8192
    spread: float = 0.02  # standard deviation of the weights


SMALL = Size(28, 14, (32, 64, 2, 2), 4, (32, 64, 2, 2), (32, 64, 2, 2), 512, 256, 0.3)


def blip2(size: Size, device: str) -> Blip2ForConditionalGeneration:
    """Random weights in bfloat16, made on the device; images and queries reach the words."""

    def part(shape: tuple[int, int, int, int], **more: Any) -> dict[str, Any]:
        names = (
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
        )
        return {**dict(zip(names, shape, strict=True)), "initializer_range": size.spread, **more}

    text = {
        "model_type": "opt", "vocab_size": size.vocabulary, "max_position_embeddings": 2048, "init_std": size.spread,
        "hidden_size": size.text[0], "word_embed_proj_dim": size.text[0], "ffn_dim": size.text[1],
        "num_hidden_layers": size.text[2], "num_attention_heads": size.text[3],
    }  # fmt: skip
    config = Blip2Config(
        vision_config=part(size.vision, image_size=size.side, patch_size=size.patch),
        qformer_config=part(
            size.qformer, encoder_hidden_size=size.vision[0], vocab_size=size.vocabulary
        ),
        text_config=text,
        num_query_tokens=size.queries,
        image_token_index=size.vocabulary - 1,
    )
    with torch.device(device):
        model = Blip2ForConditionalGeneration._from_config(config, dtype=torch.bfloat16)
        torch.nn.init.normal_(model.query_tokens)
    for settings in (model.generation_config, model.language_model.generation_config):
        settings.eos_token_id = None  # no word ends a caption
        settings.pad_token_id = 1
    return model.eval().requires_grad_(False)


def as_published(model: Blip2ForConditionalGeneration) -> Blip2ForConditionalGeneration:
    """The same weights as `from_pretrained(dtype=torch.float16)` holds them: the Q-Former stays float32."""
    published = copy.deepcopy(model).half()
    published.qformer.float()
    published.query_tokens.data = published.query_tokens.data.float()
    return published


def processor(size: Size) -> Blip2Processor:
    """One word a token, so that captions can be compared token by token."""
    words = {f"w{number}": number for number in range(size.vocabulary - 1)}
    special = {"unk_token": "w0", "bos_token": "w2"}
    coder = Tokenizer(models.WordLevel(words, special["unk_token"]))
    coder.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=coder, **special)
    pictures = BlipImageProcessor(size={"height": size.side, "width": size.side})
    return Blip2Processor(pictures, tokenizer, num_query_tokens=size.queries)


def pictures(count: int, side: int) -> list[bytes]:
    """Different photographs of a sort, as JPEG files: a noisy PNG of this size would take longer to write than to caption."""
    encoded: list[bytes] = []
    while len(encoded) < count:
        coarse = torch.rand(min(256, count - len(encoded)), 3, 8, 8)
        smooth = F.interpolate(coarse, (side, side), mode="bilinear") * 255
        pixels = (smooth + 8 * torch.randn_like(smooth)).clamp(0, 255).byte()
        encoded += in_threads(_jpeg, list(pixels.permute(0, 2, 3, 1).numpy()))
    return encoded


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=90)
    return buffer.getvalue()
