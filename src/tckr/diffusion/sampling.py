"""Draw images from a generator."""

import inspect
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tckr.diffusion.embeddings import Words, embed, encode_in_parts
from tckr.diffusion.frames import from_frame, to_bytes
from tckr.diffusion.memory import GIB, BatchSize, Rows, by_pixels, evenly, guess, keep, scratch
from tckr.diffusion.options import SamplingOptions
from tckr.diffusion.pipeline import side, solver
from tckr.engine import map_shards
from tckr.engine.overlap import behind, to_host
from tckr.engine.progress import track

ON_CPU, LARGEST = 128, 512  # batches of `auto`: all of a CPU's; a GPU gains nothing beyond


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
    pipeline: Any,
    prompts: Sequence[str],
    size: tuple[int, int],
    channels: int,
    options: SamplingOptions,
    seed: int,
) -> Tensor:
    """One image a prompt; image i depends on the seed and i, not on its batch or the number of workers.

    Args:
        pipeline: as `generator.load` gives it.
        size: height and width of the private images, pixels.
        channels: 1 for grey, 3 for colour.

    Returns:
        uint8 (N, channels, height, width), on the CPU.

    Raises:
        UserError: not even one image fits in the device's memory.
    """
    return gathered(stream(pipeline, prompts, size, channels, options, seed), len(prompts))


def gathered(batches: Iterable[Tensor], count: int) -> Tensor:
    """All `count` rows in one tensor, filled as they come: joining a list of them would take twice the memory."""
    whole, done = torch.empty(0), 0
    for batch in batches:
        if not done:
            whole = torch.empty((count, *batch.shape[1:]), dtype=batch.dtype)
        whole[done : done + len(batch)] = batch
        done += len(batch)
    return whole


def stream(
    pipeline: Any,
    prompts: Sequence[str],
    size: tuple[int, int],
    channels: int,
    options: SamplingOptions,
    seed: int,
    cache_folder: Path | None = None,
) -> Iterator[Tensor]:
    """The images of `sample` in batches, in order; on a GPU each is handed over while it draws the next.

    Args:
        cache_folder: where text embeddings go that exceed `options.cache_gib`, while this runs.
    """
    # A large set repeats its prompts: an embedding an image would take many times the images' own memory.
    place = {prompt: row for row, prompt in enumerate(dict.fromkeys(prompts))}
    rows = torch.tensor([place[prompt] for prompt in prompts])
    with ExitStack() as stack:
        folder = stack.enter_context(scratch(cache_folder))
        parts = (part.parts() for part in encode_in_parts(pipeline, list(place)))
        words = keep(parts, len(place), options.cache_gib * GIB, folder)
        request = Request(
            pipeline, words, rows, embed(pipeline, [""]), size, channels, options, seed
        )
        yield from (_on_cpu if pipeline.device.type == "cpu" else _on_gpu)(request)


def _on_cpu(request: "Request") -> Iterator[Tensor]:
    """Batches drawn side by side by `workers` processes."""
    size = ON_CPU if request.options.batch_size == "auto" else request.options.batch_size
    count = len(request.rows)
    shards = [range(start, min(start + size, count)) for start in range(0, count, size)]
    yield from map_shards(
        _shard, shards, request.options.workers, "synthetic images", shared=request
    )


def _shard(rows: range, request: "Request") -> Tensor:
    draw = Draw(request, compiled=False)
    return torch.cat(list(BatchSize(len(rows)).over(rows, draw)))


def _on_gpu(request: "Request") -> Iterator[Tensor]:
    """Batches one after the other; the GPU draws the next while the last is copied and used."""
    count, compiled = len(request.rows), request.options.compile
    draw = Draw(request, compiled)
    batches = BatchSize(evenly(count, _largest(request)))
    starts = range(0, count, batches.size)

    def work(rows: range) -> Tensor:
        # A compiled network is compiled anew for another size: the last batch draws a few for nothing.
        wanted = range(rows.start, rows.start + batches.size) if compiled else rows
        return draw(wanted)[: len(rows)]

    drawn = track(batches.over(range(count), work), "synthetic images", len(starts))
    for arrived in behind(to_host(batch) for batch in drawn):
        yield arrived()


def _largest(request: "Request") -> int:
    """The batch that was asked for, or what seems to fit."""
    asked = request.options.batch_size
    if asked != "auto":
        return asked
    eager = Draw(request, compiled=False)
    return min(LARGEST, guess(lambda rows: eager.denoise(rows, only=1), request.pipeline.device))


BLOCK = 64  # images whose first noise is drawn in one call; part of what a seed means
DECODED = 64  # latents turned into pixels at once


@dataclass(frozen=True)
class Request:
    """What every batch of one call has in common; image i is described by row `rows[i]` of `words`."""

    pipeline: Any
    words: Rows
    rows: Tensor
    nothing: Words
    size: tuple[int, int]
    channels: int
    options: SamplingOptions
    seed: int


class Draw:
    """Draws the images of a range of numbers."""

    def __init__(self, request: Request, compiled: bool) -> None:
        self.request = request
        pipeline = request.pipeline
        # Not for any size: each batch size and guided or not has a network of its own, which is faster.
        self.unet: Any = torch.compile(pipeline.unet, dynamic=False) if compiled else pipeline.unet  # fmt: skip
        config = pipeline.unet.config
        self.shape = (config.in_channels, config.sample_size, config.sample_size)
        self.decoding = BatchSize(by_pixels(side(pipeline), DECODED))

    @torch.inference_mode()
    def __call__(self, rows: range) -> Tensor:
        """uint8 (len(rows), channels, height, width), on the generator's device."""
        latents = self.denoise(rows)
        parts = self.decoding.over(range(len(rows)), lambda part: self._pixels(latents[part.start : part.stop]))  # fmt: skip
        return torch.cat(list(parts))

    def _pixels(self, latents: Tensor) -> Tensor:
        vae = self.request.pipeline.vae
        inputs = (latents / vae.config.scaling_factor).to(vae.dtype)
        frames = to_bytes(vae.decode(inputs, return_dict=False)[0])
        return from_frame(frames, *self.request.size, self.request.channels)

    @torch.inference_mode()
    def denoise(self, rows: range, only: int | None = None) -> Tensor:
        """Latents, float32 (len(rows), C, h, w), after all steps, or after the first `only` ones."""
        request, options = self.request, self.request.options
        device, seed = request.pipeline.device, request.seed
        words, nothing = self._words(rows), request.nothing
        guided = options.guidance_scale > 1 and not self._embeds_guidance
        both = nothing.expand(len(rows)).then(words) if guided else words
        scheduler = solver(request.pipeline.scheduler, options.scheduler)
        scheduler.set_timesteps(options.steps)  # on the CPU: a step then never waits for the GPU
        extra = self._extra(scheduler, rows, seed)
        latents = first_noise(self.shape, seed, rows, device) * scheduler.init_noise_sigma
        times = scheduler.timesteps
        for index, (time, on_device) in enumerate(zip(times, times.to(device), strict=True)):
            if index == only:
                break
            inputs = scheduler.scale_model_input(latents, time)
            if guided and _within(options.guidance_interval, index / len(times)):
                without, told = self._predict(torch.cat([inputs, inputs]), on_device, both).chunk(2)
                predicted = without + options.guidance_scale * (told - without)
            else:
                predicted = self._predict(inputs, on_device, words)
            latents = scheduler.step(predicted, time, latents, **extra, return_dict=False)[0]
        return latents

    def _predict(self, inputs: Tensor, time: Tensor, words: Words) -> Tensor:
        condition = None
        if self._embeds_guidance:
            scale = torch.full((len(inputs),), self.request.options.guidance_scale - 1)
            width = self.unet.config.time_cond_proj_dim
            condition = self.request.pipeline.get_guidance_scale_embedding(scale, width)
            condition = condition.to(inputs.device, words.hidden.dtype)
        return self.unet(
            inputs.to(words.hidden.dtype),
            time.expand(len(inputs)),
            timestep_cond=condition,
            return_dict=False,
            **words.arguments(),
        )[0].float()

    @property
    def _embeds_guidance(self) -> bool:
        """Whether the denoiser reads the guidance scale, as latent consistency models do (Luo et al. 2023)."""
        return self.request.pipeline.unet.config.time_cond_proj_dim is not None

    def _words(self, rows: range) -> Words:
        last = len(self.request.rows) - 1
        wanted = torch.arange(rows.start, rows.stop).clamp(max=last)
        return Words.of(self.request.words.read(self.request.rows[wanted]))

    def _extra(self, scheduler: Any, rows: range, seed: int) -> dict[str, Any]:
        """A source of noise for each image, for solvers that add noise at every step."""
        if "generator" not in inspect.signature(scheduler.step).parameters:
            return {}
        device = self.request.pipeline.device
        return {"generator": [_generator(device, seed, 1, row) for row in rows]}


def _within(interval: tuple[float, float], progress: float) -> bool:
    """Whether a step that begins at `progress` (0 to 1) is guided."""
    low, high = interval
    return low <= progress < high


def first_noise(shape: tuple[int, ...], seed: int, rows: range, device: torch.device) -> Tensor:
    """First noise, float32 (len(rows), *shape); image i's is row i % BLOCK of its block, whatever the batch."""
    first = rows.start // BLOCK
    blocks = [
        torch.randn(BLOCK, *shape, device=device, generator=_generator(device, seed, 0, block))
        for block in range(first, (rows.stop - 1) // BLOCK + 1)
    ]
    begin = rows.start - first * BLOCK
    return torch.cat(blocks)[begin : begin + len(rows)]


def _generator(device: torch.device, *numbers: int) -> torch.Generator:
    mixed = np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(mixed >> 1))
