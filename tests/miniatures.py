"""Tiny untrained models of the real classes, for tests: seconds to build, saved as the folders a user would give."""

from pathlib import Path

from diffusers import StableDiffusionPipeline
from transformers import CLIPTokenizer

from tckr.foundation.captioner import CaptionerShape, build_captioner, build_processor
from tckr.foundation.generator import GeneratorShape, build_generator
from tckr.foundation.tokenizer import train_tokenizer

SENTENCES = [
    "a small red round shape on plain white background",
    "a tall grey wide boot, split top",
] * 20


def tokenizer() -> CLIPTokenizer:
    """A few hundred tokens, at most 24 a prompt."""
    return train_tokenizer(SENTENCES, 640, 24)


def generator() -> StableDiffusionPipeline:
    """A text-to-image pipeline of 16x16 colour images with some 0.2 M random weights."""
    shape = GeneratorShape(
        image_size=16,
        autoencoder_widths=(16, 16),
        denoiser_widths=(16, 32),
        text_width=32,
        text_layers=1,
        heads=2,
    )
    return build_generator(tokenizer(), shape)


def save_captioner(folder: Path) -> Path:
    """A BLIP-2 of 16x16 images with random weights, saved to `folder`."""
    shape = CaptionerShape(
        image_size=16, vision_width=32, vision_layers=1, queries=4, query_width=32, query_layers=1, text_width=32,
        text_layers=1,
    )  # fmt: skip
    words = tokenizer()
    build_captioner(words, shape).save_pretrained(folder)
    build_processor(words, shape).save_pretrained(folder)
    return folder


def save_generator(folder: Path) -> Path:
    """The generator, saved to `folder`."""
    generator().save_pretrained(folder)
    return folder
