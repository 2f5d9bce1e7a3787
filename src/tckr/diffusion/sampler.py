"""Draws image i of a seed, whatever the batch it is in: noise, solver, guidance, decoding."""

import inspect
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tckr.diffusion.embeddings import PromptEmbeds
from tckr.diffusion.frames import from_frame, to_bytes
from tckr.diffusion.memory import (
    BatchSize,
    Rows,
    autoencoder_batch_size,
)
from tckr.diffusion.options import SamplingOptions
from tckr.diffusion.pipeline import side, solver
from tckr.errors import UserError

NOISE_BLOCK = 64  # images whose first noise is drawn in one call; part of what a seed means
DECODED = 64  # latents decoded to pixels at once, at most


@dataclass(eq=False)
class Sampler:
    """Draws images by their numbers: `sampler(range(8))` are the first eight, whatever the batches.

    Attributes:
        pipeline: as `pipeline.load` returns it.
        prompt_embeds: text embeddings of the distinct prompts.
        rows: int64 (N,), the row of `prompt_embeds` that conditions image i.
        negative_prompt_embeds: embedding of the empty prompt, one row.
        size: height and width of the images, pixels.
        channels: 1 for grey, 3 for colour.
        options: solver, steps and guidance.
        seed: of all noise.
        compile: compile the denoiser, for each batch size and for guided and plain steps separately,
            which is faster than one network for any size.
        batch: images at once, to which a compiled denoiser is held.
    """

    pipeline: Any
    prompt_embeds: Rows
    rows: Tensor
    negative_prompt_embeds: PromptEmbeds
    size: tuple[int, int]
    channels: int
    options: SamplingOptions
    seed: int
    compile: bool = False
    batch: int = 0
    unet: Any = field(init=False, repr=False)
    decoding: BatchSize = field(init=False, repr=False)
    overflowed: Tensor | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        unet = self.pipeline.unet
        self.unet = torch.compile(unet, dynamic=False) if self.compile else unet
        self.decoding = BatchSize(autoencoder_batch_size(side(self.pipeline), DECODED))

    def __len__(self) -> int:
        return len(self.rows)

    def __reduce__(self) -> tuple[Any, ...]:
        # A compiled denoiser cannot be sent to a worker, which compiles its own.
        return type(self), tuple(getattr(self, one.name) for one in fields(self) if one.init)

    @torch.inference_mode()
    def __call__(self, numbers: range) -> Tensor:
        """Return the images of these numbers, uint8 (len(numbers), channels, height, width), on the device."""
        latents = self.denoise(numbers)
        parts = self.decoding.over(
            range(len(numbers)), lambda part: self._decode(latents[part.start : part.stop])
        )
        return torch.cat(list(parts))

    @torch.inference_mode()
    def denoise(self, numbers: range, only: int | None = None) -> Tensor:
        """Return latents, float32 (len(numbers), C, h, w), after all steps, or after the first `only` ones."""
        device, options = self.pipeline.device, self.options
        prompt_embeds = self._read_embeds(numbers)
        do_classifier_free_guidance = options.guidance_scale > 1 and not self._embeds_guidance
        both_embeds = (
            self.negative_prompt_embeds.expand(len(numbers)).cat(prompt_embeds)
            if do_classifier_free_guidance
            else prompt_embeds
        )
        scheduler = solver(self.pipeline.scheduler, options.scheduler)
        scheduler.set_timesteps(options.steps)  # on the CPU: a step then never waits for the GPU
        extra_step_kwargs = self._extra_step_kwargs(scheduler, numbers)
        config = self.pipeline.unet.config
        shape = (config.in_channels, config.sample_size, config.sample_size)
        latents = first_noise(shape, self.seed, numbers, device) * scheduler.init_noise_sigma
        if options.initial_noise_scale != 1:
            # Expansion trick (GaFi, arXiv 2305.10118): z ~ N(0, std^2) with std > 1, for more varied images.
            latents = latents * options.initial_noise_scale
        timesteps = scheduler.timesteps
        for i, (t, t_on_device) in enumerate(zip(timesteps, timesteps.to(device), strict=True)):
            if i == only:
                break
            latent_input = scheduler.scale_model_input(latents, t)
            if do_classifier_free_guidance and _is_guided(options, i / len(timesteps)):
                noise_pred = self._predict(
                    torch.cat([latent_input, latent_input]), t_on_device, both_embeds
                )
                # Classifier-free guidance (Ho & Salimans 2022, eq. 6, with guidance_scale = 1 + w).
                noise_pred_uncond, noise_pred_text = noise_pred.chunk(2)
                noise_pred = noise_pred_uncond + options.guidance_scale * (
                    noise_pred_text - noise_pred_uncond
                )
            else:
                noise_pred = self._predict(latent_input, t_on_device, prompt_embeds)
            latents = scheduler.step(
                noise_pred, t, latents, **extra_step_kwargs, return_dict=False
            )[0]
        return latents

    def _read_embeds(self, numbers: range) -> PromptEmbeds:
        """Return one row per number; numbers beyond the last image get the last one's."""
        wanted = torch.arange(numbers.start, numbers.stop).clamp(max=len(self) - 1)
        return PromptEmbeds(**self.prompt_embeds.read(self.rows[wanted]))

    def _predict(self, latents: Tensor, t: Tensor, prompt_embeds: PromptEmbeds) -> Tensor:
        """Return the denoiser's prediction, float32."""
        timestep_cond = None
        if self._embeds_guidance:
            scale = torch.full((len(latents),), self.options.guidance_scale - 1)
            width = self.unet.config.time_cond_proj_dim
            timestep_cond = self.pipeline.get_guidance_scale_embedding(scale, width)
            timestep_cond = timestep_cond.to(latents.device, prompt_embeds.dtype)
        return self.unet(
            latents.to(prompt_embeds.dtype),
            t.expand(len(latents)),
            timestep_cond=timestep_cond,
            return_dict=False,
            **prompt_embeds.unet_kwargs(),
        )[0].float()

    @property
    def _embeds_guidance(self) -> bool:
        """Whether the denoiser reads the guidance scale, as latent consistency models do (Luo et al. 2023)."""
        return self.pipeline.unet.config.time_cond_proj_dim is not None

    def _extra_step_kwargs(self, scheduler: Any, numbers: range) -> dict[str, Any]:
        """Return a source of noise per image, for solvers that add noise at every step."""
        if "generator" not in inspect.signature(scheduler.step).parameters:
            return {}
        device = self.pipeline.device
        return {"generator": [_generator(device, self.seed, 1, number) for number in numbers]}

    def _decode(self, latents: Tensor) -> Tensor:
        vae = self.pipeline.vae
        inputs = (latents / vae.config.scaling_factor).to(vae.dtype)
        decoded = vae.decode(inputs, return_dict=False)[0]
        bad = ~decoded.isfinite().all()  # stays on the device, so that a GPU does not wait here
        self.overflowed = bad if self.overflowed is None else self.overflowed | bad
        return from_frame(to_bytes(decoded), *self.size, self.channels)

    def check_finite(self) -> None:
        """Check that all images so far were made of finite numbers; as bytes they would be black.

        Raises:
            UserError: some were not.
        """
        if self.overflowed is not None and bool(self.overflowed):
            raise UserError(
                "The generator's images are not finite: its weights, or those of its adapter, overflow.",
                "give another generator or adapter, or adapt it with a lower generator_adaptation.schedule.learning_rate.",
            )


def first_noise(shape: tuple[int, ...], seed: int, numbers: range, device: torch.device) -> Tensor:
    """Return the first noise of the images, float32 (len(numbers), *shape).

    Image i reads row i % NOISE_BLOCK of its block, so that its noise does not depend on its batch.
    """
    first = numbers.start // NOISE_BLOCK
    blocks = [
        torch.randn(
            NOISE_BLOCK, *shape, device=device, generator=_generator(device, seed, 0, block)
        )
        for block in range(first, (numbers.stop - 1) // NOISE_BLOCK + 1)
    ]
    begin = numbers.start - first * NOISE_BLOCK
    return torch.cat(blocks)[begin : begin + len(numbers)]


def _is_guided(options: SamplingOptions, progress: float) -> bool:
    """Return whether a step that begins at `progress` (0 to 1) is guided (Kynkäänniemi et al. 2024)."""
    low, high = options.guidance_interval
    return low <= progress < high


def _generator(device: torch.device, *numbers: int) -> torch.Generator:
    """Return a generator seeded by a hash of `numbers`: streams of different numbers are independent."""
    mixed = np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(mixed >> 1))
