"""Draw images from a generator: balanced prompts in, uint8 images out."""

import copy
import inspect
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tckr.diffusion.embeddings import PromptEmbeds, encode_in_batches, encode_prompts
from tckr.diffusion.frames import from_frame, to_bytes
from tckr.diffusion.memory import (
    GIB,
    BatchSize,
    Rows,
    autoencoder_batch_size,
    cache_rows,
    estimate_batch_size,
    evenly,
    scratch,
)
from tckr.diffusion.options import SamplingOptions
from tckr.diffusion.pipeline import side, solver
from tckr.engine import durable, resolve_workers, slots, stream_shards
from tckr.engine.device import best
from tckr.engine.mapped import large_array
from tckr.engine.overlap import behind, to_host
from tckr.engine.progress import track
from tckr.engine.tasks import part_name
from tckr.errors import UserError

__all__ = ["Sampler", "balanced_prompts", "first_noise", "gathered", "sample", "stream"]

# Batch sizes of `auto`: the one used on a CPU, and the largest on a GPU, which gains nothing beyond.
CPU_BATCH, LARGEST_GPU_BATCH = 128, 512
NOISE_BLOCK = 64  # images whose first noise is drawn in one call; part of what a seed means
HELD = 2  # batches behind the last one that whoever uses them may not have saved yet
DECODED = 64  # latents decoded to pixels at once, at most


def balanced_prompts(
    prompts: Sequence[str], labels: Sequence[int], count: int, seed: int, nested: bool = False
) -> pd.DataFrame:
    """Return `count` class-balanced prompts; each class's prompts are shuffled and reused in turn (TCKR, section 3).

    Args:
        prompts: one prompt per member, or one per class.
        labels: their classes; every class present gets floor(count / classes) prompts, and the first
            ones one more until there are `count`.
        nested: balance every prefix too, to within one prompt per class, so that the first n rows are
            a balanced set of their own.

    Returns:
        Table of prompt and label, in random order; if `nested`, in random order within each round of
        the classes.

    >>> drawn = balanced_prompts(["a red bag", "a grey bag", "a tall boot"], [0, 0, 1], 6, seed=0)
    >>> sorted(drawn.label.tolist())
    [0, 0, 0, 1, 1, 1]
    >>> sorted(drawn[drawn.label == 0].prompt.value_counts().tolist())
    [1, 2]
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
    """Draw one image per prompt; image i depends on the seed and i, not on its batch or the number of workers.

    Args:
        pipeline: as `pipeline.load` returns it.
        prompts: N prompts.
        size: height and width of the private images, pixels.
        channels: 1 for grey, 3 for colour.
        options: solver, steps, guidance and batch size.
        seed: of the first noise, and of the noise that some solvers add at every step.

    Returns:
        uint8 (N, channels, height, width), on the CPU.

    Raises:
        UserError: not even one image fits in the device's memory.
    """
    return gathered(stream(pipeline, prompts, size, channels, options, seed), len(prompts))


def stream(
    pipeline: Any,
    prompts: Sequence[str],
    size: tuple[int, int],
    channels: int,
    options: SamplingOptions,
    seed: int,
    cache_folder: Path | None = None,
    start: int = 0,
    work: Callable[[], str | None] | None = None,
) -> Iterator[Tensor]:
    """Yield the images of `sample` in batches, in order; a GPU draws the next batch while one is used.

    Several GPUs, several cores and the workers of a cluster draw batches side by side.

    Args:
        start: number of the first image to yield. It is drawn in the batch in which it would be drawn otherwise, so
            that the same batch size gives the same image to the last bit.
        cache_folder: where text embeddings that exceed `options.cache_gib` are stored meanwhile; by
            default the scratch folder of the run (`tckr.engine.scratch`).
        work: returns a name for this drawing, a hash of all that decides its images (None if nobody knows one), under
            which the workers of a cluster keep batches that nobody has used yet.
    """
    # A large set repeats its prompts: one embedding per image would take many times the images' own memory.
    row_of = {prompt: row for row, prompt in enumerate(dict.fromkeys(prompts))}
    on_cpu = pipeline.device.type == "cpu"
    with ExitStack() as stack:
        folder = stack.enter_context(scratch(cache_folder))
        parts = (part.tensors() for part in encode_in_batches(pipeline, list(row_of)))
        sampler = Sampler(
            pipeline=pipeline,
            prompt_embeds=cache_rows(parts, len(row_of), options.cache_gib * GIB, folder),
            rows=torch.tensor([row_of[prompt] for prompt in prompts]),
            negative_prompt_embeds=encode_prompts(pipeline, [""]),
            size=size,
            channels=channels,
            options=options,
            seed=seed,
            compile=options.compile and not on_cpu,
        )
        workers, devices = (0, []) if options.workers == 1 else resolve_workers()
        if on_cpu or workers > 1:
            drawn = _stream_in_shards(sampler, start, devices, work)
        else:
            drawn = _stream_on_gpu(sampler, start)
        yield from _from(drawn, start)


def gathered(batches: Iterable[Tensor], count: int) -> Tensor:
    """Gather batches into one tensor of `count` rows, filled as they come: `torch.cat` would need twice the memory.

    One that exceeds 1 GiB or a quarter of the free memory lies in a scratch file (`tckr.engine.mapped`).

    >>> gathered(iter([torch.zeros(2, 1), torch.ones(1, 1)]), 3).flatten().tolist()
    [0.0, 0.0, 1.0]
    """
    whole, done = torch.empty(0), 0
    for batch in batches:
        if not done:
            shape = (count, *batch.shape[1:])
            whole = torch.from_numpy(large_array(shape, batch.numpy().dtype))
        whole[done : done + len(batch)] = batch
        done += len(batch)
    return whole


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


def _stream_in_shards(
    sampler: Sampler, start: int, devices: Sequence[str], work: Callable[[], str | None] | None
) -> Iterator[tuple[int, Tensor]]:
    """Yield batches that workers draw side by side, from the one with image `start` on; and their places."""
    options, count = sampler.options, len(sampler)
    if sampler.pipeline.device.type == "cpu":
        size = CPU_BATCH if options.batch_size == "auto" else options.batch_size
    else:
        size = evenly(count, _gpu_batch_size(sampler))
    begin = start // size * size
    shards = [range(first, min(first + size, count)) for first in range(begin, count, size)]
    shared = replace(sampler, batch=size, pipeline=_without_text_encoders(sampler.pipeline))
    name = work() if work is not None and slots() is not None else None
    keep = None if name is None else durable(name)
    drawn = stream_shards(
        _draw_shard,
        shards,
        options.workers,
        "synthetic images",
        shared=shared,
        devices=devices,
        keep=keep,
    )
    used: deque[range] = deque()
    for shard, batch in zip(shards, drawn, strict=True):
        yield shard.start, batch
        used.append(shard)
        if keep is not None and len(used) > HELD:
            keep.of(part_name(used.popleft())).path.unlink()
    if keep is not None:
        keep.remove()


def _from(drawn: Iterable[tuple[int, Tensor]], start: int) -> Iterator[Tensor]:
    """Yield what comes from image `start` on; each batch comes with the number of its first image."""
    for first, batch in drawn:
        if first + len(batch) > start:
            yield batch[max(0, start - first) :]


def _without_text_encoders(pipeline: Any) -> Any:
    """Return a shallow copy with what draws images from embeddings.

    Workers need no more, and a text encoder that has returned hidden states cannot be pickled.
    """
    light = copy.copy(pipeline)
    for name in ("tokenizer", "tokenizer_2", "text_encoder", "text_encoder_2"):
        if hasattr(light, name):
            setattr(light, name, None)
    return light


def _draw_shard(numbers: range, sampler: Sampler) -> Tensor:
    # Another size would be compiled again: the last batch draws a few images that are dropped.
    wanted = range(numbers.start, numbers.start + sampler.batch) if sampler.compile else numbers
    best()  # a worker starts with torch's own settings, under which equal images may come out unequal
    images = torch.cat(list(BatchSize(len(wanted)).over(wanted, sampler)))[: len(numbers)]
    sampler.check_finite()
    return images.cpu()


def _stream_on_gpu(sampler: Sampler, start: int) -> Iterator[tuple[int, Tensor]]:
    """Yield batches one after the other, from the one with image `start` on, and the number of each one's first image.

    The GPU draws the next batch while the last is copied and used.
    """
    count = len(sampler)
    batches = BatchSize(evenly(count, _gpu_batch_size(sampler)))
    begin = start // batches.size * batches.size
    starts = range(begin, count, batches.size)

    def draw(numbers: range) -> tuple[int, Tensor]:
        # Another size would be compiled again: the last batch draws a few images that are dropped.
        wanted = range(numbers.start, numbers.start + batches.size) if sampler.compile else numbers
        return numbers.start, sampler(wanted)[: len(numbers)]

    drawn = track(batches.over(range(begin, count), draw), "synthetic images", len(starts))
    for first, copied in behind((first, to_host(batch)) for first, batch in drawn):
        yield first, copied()
    sampler.check_finite()


def _gpu_batch_size(sampler: Sampler) -> int:
    """Return the batch size of the options, or for `auto` an estimate of what fits."""
    if sampler.options.batch_size != "auto":
        return sampler.options.batch_size
    eager = replace(sampler, compile=False)
    fits = estimate_batch_size(
        lambda numbers: eager.denoise(numbers, only=1), sampler.pipeline.device
    )
    return min(LARGEST_GPU_BATCH, fits)


def _is_guided(options: SamplingOptions, progress: float) -> bool:
    """Return whether a step that begins at `progress` (0 to 1) is guided (Kynkäänniemi et al. 2024)."""
    low, high = options.guidance_interval
    return low <= progress < high


def _generator(device: torch.device, *numbers: int) -> torch.Generator:
    """Return a generator seeded by a hash of `numbers`: streams of different numbers are independent."""
    mixed = np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(mixed >> 1))
