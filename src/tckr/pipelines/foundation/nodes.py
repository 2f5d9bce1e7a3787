"""Thin nodes of the foundation pipeline: public images and sentences in, four trained miniatures out."""

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from diffusers import StableDiffusionPipeline
from pydantic import Field
from torch import Tensor
from transformers import CLIPTokenizer

from tckr.engine.checkpoint import Checkpoints, fingerprint
from tckr.foundation.attributes import describe
from tckr.foundation.captioner import SeeingRecipe, build_processor, train_captioner, train_clip
from tckr.foundation.generator import GeneratorRecipe, train_generator
from tckr.foundation.masked_lm import MaskedRecipe, train_masked, train_masked_tokenizer
from tckr.foundation.public import PublicMixOptions, collect, compose
from tckr.foundation.tokenizer import encode, train_tokenizer
from tckr.options import Options

Losses = dict[str, list[float]]


class FoundationOptions(Options):
    """Everything the foundation pipeline can be told."""

    photos: str = Field(description="Parquet of public photographs")
    clip_art: str = Field(description="folder of the Open Clip Art Library")
    emoji: str = Field(description="folder of the emoji package")
    sentences: str = Field(
        description="Parquet of public captions, for the tokenizers and the masked model"
    )
    device: str = Field("cuda", pattern="^(cpu|cuda)$")
    checkpoints: str = Field(
        description="folder of unfinished work; a run that was cut short goes on from there"
    )
    minutes: float | None = Field(
        None, gt=0, description="pause a part after so long; the same command goes on; null: never"
    )
    vocabulary: int = Field(4096, ge=600, description="tokens")
    max_length: int = Field(48, ge=8, le=77, description="tokens a prompt may take")
    mix: PublicMixOptions
    generator: GeneratorRecipe
    seeing: SeeingRecipe
    masked: MaskedRecipe

    def resumable(self, seed: int) -> Checkpoints:
        """Where the parts keep what they have not finished; those of other options or another seed lie beside it."""
        work = fingerprint(self.model_dump_json(exclude={"checkpoints", "minutes"}), seed)
        return Checkpoints(Path(self.checkpoints) / work, self.minutes and 60 * self.minutes)


def collect_public(options: FoundationOptions) -> pd.DataFrame:
    """Gather the public images."""
    return collect(Path(options.photos), Path(options.clip_art), Path(options.emoji))


def compose_public(
    public: pd.DataFrame, options: FoundationOptions, seed: int
) -> tuple[Tensor, pd.DataFrame]:
    """Training views (uint8 N, 3, size, size) and their texts (name, caption)."""
    images, names = compose(public, options.mix, seed)
    return images, pd.DataFrame({"name": names, "caption": describe(images)})


def make_tokenizer(texts: pd.DataFrame, options: FoundationOptions) -> CLIPTokenizer:
    """Tokenizer of the public captions and sentences, so that any English class name can be spelt."""
    sentences = pd.read_parquet(options.sentences).caption
    return train_tokenizer(
        [*sentences, *texts.name.unique(), *texts.caption], options.vocabulary, options.max_length
    )


def word(texts: pd.DataFrame, tokenizer: CLIPTokenizer) -> Tensor:
    """Token ids (20, N, L): how often each wording is drawn is how often it stands here.

    15 of 20 `"{name}: {caption}"`, 2 the name, 1 the caption, 2 nothing (for classifier-free guidance).
    """
    empty = encode(tokenizer, [""]).expand(len(texts), -1)
    full = encode(tokenizer, [f"{n}: {c}" for n, c in zip(texts.name, texts.caption, strict=True)])
    name, caption = encode(tokenizer, list(texts.name)), encode(tokenizer, list(texts.caption))
    return torch.stack([*[full] * 15, *[name] * 2, caption, *[empty] * 2]).short()


def make_generator(
    images: Tensor, words: Tensor, tokenizer: CLIPTokenizer, options: FoundationOptions, seed: int
) -> tuple[list[Any], dict[str, Losses]]:
    """Train the generator; its folder's parts, in half precision, and its loss curves."""
    pipeline, losses = train_generator(
        images, words, tokenizer, options.generator, options.device, seed, options.resumable(seed)
    )
    return [_halve(pipeline)], {name: _curve(table) for name, table in losses.items()}


def make_captioner(
    images: Tensor,
    texts: pd.DataFrame,
    tokenizer: CLIPTokenizer,
    options: FoundationOptions,
    seed: int,
) -> tuple[list[Any], dict[str, Losses]]:
    """Train the captioner; its folder's parts, in half precision, and its loss curve."""
    tokens = encode(tokenizer, list(texts.caption))
    model, losses = train_captioner(
        images,
        tokens,
        tokenizer,
        options.seeing,
        options.device,
        seed,
        options.resumable(seed).of("captioner"),
    )
    processor = build_processor(tokenizer, options.seeing.captioner)
    return [model.half(), processor], {"captioner": _curve(losses)}


def make_clip(
    images: Tensor, words: Tensor, tokenizer: CLIPTokenizer, options: FoundationOptions, seed: int
) -> tuple[list[Any], dict[str, Losses]]:
    """Train the CLIP on the wordings that say something; its folder's parts and its loss curve."""
    model, losses = train_clip(
        images,
        words[:18],
        tokenizer,
        options.seeing,
        options.device,
        seed,
        options.resumable(seed).of("clip"),
    )
    pictures = build_processor(tokenizer, options.seeing.captioner).image_processor
    return [model.half(), tokenizer, pictures], {"clip": _curve(losses)}


def make_masked(
    texts: pd.DataFrame, options: FoundationOptions, seed: int
) -> tuple[list[Any], dict[str, Losses]]:
    """Train the masked language model on the images' texts and the public captions, each distinct one once."""
    captions = pd.read_parquet(options.sentences).caption
    sentences = sorted({*(texts.name + ": " + texts.caption), *captions})
    tokenizer = train_masked_tokenizer(sentences, options.masked.shape)
    model, losses = train_masked(
        encode(tokenizer, sentences),
        tokenizer,
        options.masked,
        options.device,
        seed,
        options.resumable(seed).of("masked"),
    )
    return [model.half(), tokenizer], {"masked": _curve(losses)}


def gather_losses(
    options: FoundationOptions, seed: int, *parts: dict[str, Losses]
) -> dict[str, Losses]:
    """All loss curves in one mapping. All models are saved by now: unfinished work is no longer needed."""
    options.resumable(seed).remove()
    return {name: curve for part in parts for name, curve in part.items()}


def _halve(pipeline: StableDiffusionPipeline) -> StableDiffusionPipeline:
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        part.half()
    return pipeline


def _curve(table: pd.DataFrame) -> Losses:
    return {str(column): values.tolist() for column, values in table.items()}
