"""Tiny captioners of other kinds than the shipped one, random weights, saved as a user would give them."""

from collections.abc import Callable
from pathlib import Path

import torch
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
    BlipProcessor,
    CLIPImageProcessorPil,
    GitConfig,
    GitForCausalLM,
    GitProcessor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

import miniatures

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
# Weights so large that the words depend on the image.
LOUD = {"initializer_range": 0.5}
VISION = {**SMALL, **LOUD, "image_size": 16, "patch_size": 8}
TEMPLATE = (
    "{% for m in messages %}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image> {% else %}{{ c['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}"
)


def _special(words: object) -> dict[str, int]:
    return {
        "vocab_size": len(words),  # type: ignore[arg-type]
        "bos_token_id": words.bos_token_id,  # type: ignore[attr-defined]
        "eos_token_id": words.eos_token_id,  # type: ignore[attr-defined]
        "pad_token_id": 0,
    }


def _cropped() -> CLIPImageProcessorPil:
    return CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})


def _resized() -> BlipImageProcessorPil:
    return BlipImageProcessorPil(size={"height": 16, "width": 16})


def save_blip(folder: Path) -> Path:
    """Plain BLIP."""
    words = miniatures.tokenizer()
    text = {**SMALL, **LOUD, **_special(words), "sep_token_id": words.eos_token_id}
    text |= {"encoder_hidden_size": 32, "max_position_embeddings": 40}
    config = BlipConfig(text_config=text, vision_config=VISION, projection_dim=16)
    BlipForConditionalGeneration(config).save_pretrained(folder)
    BlipProcessor(_resized(), words).save_pretrained(folder)
    return folder


def save_blip2_t5(folder: Path) -> Path:
    """BLIP-2 with an encoder-decoder language model."""
    words = miniatures.tokenizer()
    token = len(words)
    text = {"model_type": "t5", "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1}
    text |= {"num_heads": 2, "decoder_start_token_id": 0, "initializer_factor": 5.0}
    config = Blip2Config(
        vision_config=VISION,
        qformer_config={**SMALL, **LOUD, "encoder_hidden_size": 32, "vocab_size": token + 1},
        text_config={**text, **_special(words), "vocab_size": token + 1},
        num_query_tokens=4,
        image_token_index=token,
    )
    model = Blip2ForConditionalGeneration(config)
    torch.nn.init.normal_(model.query_tokens)
    model.save_pretrained(folder)
    Blip2Processor(_resized(), words, num_query_tokens=4).save_pretrained(folder)
    return folder


def save_git(folder: Path) -> Path:
    """GIT: a decoder alone, and a processor that crops."""
    words = miniatures.tokenizer()
    config = GitConfig(
        vision_config=VISION, **SMALL, **LOUD, **_special(words), max_position_embeddings=40
    )
    GitForCausalLM(config).save_pretrained(folder)
    GitProcessor(_cropped(), words).save_pretrained(folder)
    return folder


def save_llava(folder: Path) -> Path:
    """LLaVA: a chat model, which needs a prompt."""
    words = miniatures.tokenizer()
    words.add_special_tokens({"additional_special_tokens": ["<image>"]})
    text = {**SMALL, **LOUD, **_special(words), "model_type": "llama"}
    config = LlavaConfig(
        vision_config={**VISION, "model_type": "clip_vision_model"},
        text_config=text,
        image_token_id=len(words) - 1,
        vision_feature_layer=-1,
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    LlavaProcessor(
        _cropped(), words, patch_size=8, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=TEMPLATE,
    ).save_pretrained(folder)  # fmt: skip
    return folder


KINDS: dict[str, Callable[[Path], Path]] = {
    "blip-2 with OPT": miniatures.save_captioner,
    "blip-2 with T5": save_blip2_t5,
    "blip": save_blip,
    "git": save_git,
    "llava": save_llava,
}
