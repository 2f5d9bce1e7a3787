"""Draw images from a generator."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from tckr.diffusion.frames import from_frame
from tckr.diffusion.generator import embed, side
from tckr.diffusion.options import SamplingOptions
from tckr.engine import map_shards


def balanced_prompts(
    prompts: Sequence[str], labels: Sequence[int], count: int, seed: int, nested: bool = False
) -> pd.DataFrame:
    """`count` prompts, class-balanced; a class's prompts are shuffled and used in turn (TCKR, section 3).

    Args:
        prompts: one prompt a member, or one a class.
        labels: their classes; every class present gets floor(count / classes) prompts, the first ones one more.
        nested: balance every prefix too, to within one prompt a class, so that the first n make a set of their own.

    Returns:
        table of prompt and label, in random order; if `nested`, in random order within each round of the classes.
    """
    draw = np.random.default_rng(seed)
    table = pd.DataFrame({"prompt": list(prompts), "label": np.asarray(labels, dtype=np.int64)})
    classes = sorted(table.label.unique())
    rows = []
    for index, label in enumerate(classes):
        wanted = count // len(classes) + (index < count % len(classes))
        own = table[table.label == label]
        turns = [own.iloc[draw.permutation(len(own))] for _ in range(-(-wanted // len(own)))]
        rows += [pd.concat(turns).head(wanted)] if wanted else []
    drawn = pd.concat(rows)
    if nested:
        rounds = drawn.groupby("label").cumcount()
        order = np.lexsort((draw.random(len(drawn)), rounds))
    else:
        order = draw.permutation(len(drawn))
    return drawn.iloc[order].reset_index(drop=True)


def sample(
    pipeline: StableDiffusionPipeline,
    prompts: Sequence[str],
    size: tuple[int, int],
    channels: int,
    options: SamplingOptions,
    seed: int,
) -> Tensor:
    """One image a prompt; image i depends on the seed and i, not on its batch or the number of workers.

    Args:
        size: height and width of the private images, pixels.
        channels: 1 for grey, 3 for colour.

    Returns:
        uint8 (N, channels, height, width).
    """
    # A large set repeats its prompts: an embedding an image would take many times the images' own memory.
    distinct = {prompt: row for row, prompt in enumerate(dict.fromkeys(prompts))}
    request = _Request(
        pipeline,
        embed(pipeline, list(distinct)),
        torch.tensor([distinct[prompt] for prompt in prompts]),
        embed(pipeline, [""]),
        size,
        channels,
        options,
        seed,
    )
    starts = range(0, len(prompts), options.batch_size)
    workers = options.workers if pipeline.device.type == "cpu" else 1
    return torch.cat(map_shards(_draw, starts, workers, "synthetic images", shared=request))


@dataclass(frozen=True)
class _Request:
    """What every batch of one call has in common; image i is described by `words[rows[i]]`."""

    pipeline: StableDiffusionPipeline
    words: Tensor
    rows: Tensor
    nothing: Tensor
    size: tuple[int, int]
    channels: int
    options: SamplingOptions
    seed: int


@torch.inference_mode()
def _draw(start: int, request: _Request) -> Tensor:
    """The batch that begins with image `start`."""
    pipeline, options = request.pipeline, request.options
    text = request.words[request.rows[start : start + options.batch_size].to(request.words.device)]
    unet, frame = pipeline.unet, side(pipeline)
    shape = (unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
    noise = torch.stack([_noise(shape, request.seed, start + i) for i in range(len(text))])
    guided = options.guidance_scale > 1
    drawn = pipeline(
        prompt_embeds=text,
        negative_prompt_embeds=request.nothing.expand_as(text) if guided else None,
        latents=noise.to(text.device, text.dtype),
        height=frame,
        width=frame,
        num_inference_steps=options.steps,
        guidance_scale=options.guidance_scale,
        output_type="pt",
    ).images
    pixels = (drawn.float() * 255).round().clamp(0, 255).to(torch.uint8).cpu()
    return from_frame(pixels, *request.size, request.channels)


def _noise(shape: tuple[int, ...], seed: int, index: int) -> Tensor:
    mixed = np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0]
    return torch.randn(shape, generator=torch.Generator().manual_seed(int(mixed >> 1)))
