"""The denoising loop: from noise to the pixels of a range of images."""

import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tckr.diffusion.batches import BatchSize, by_pixels
from tckr.diffusion.cache import Rows
from tckr.diffusion.frames import from_frame, to_bytes
from tckr.diffusion.generator import side
from tckr.diffusion.options import SamplingOptions
from tckr.diffusion.schedulers import solver
from tckr.diffusion.words import Words

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
