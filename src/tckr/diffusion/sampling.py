"""Draw images from a generator: balanced prompts in, uint8 images out."""

import copy
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tckr.diffusion.embeddings import encode_in_batches, encode_prompts
from tckr.diffusion.memory import (
    GIB,
    BatchSize,
    cache_rows,
    estimate_batch_size,
    evenly,
    scratch,
)
from tckr.diffusion.options import SamplingOptions
from tckr.diffusion.sampler import Sampler
from tckr.engine import durable, resolve_workers, slots, stream_shards
from tckr.engine.device import best
from tckr.engine.mapped import large_array
from tckr.engine.overlap import behind, to_host
from tckr.engine.progress import track
from tckr.engine.tasks import part_name

# Batch sizes of `auto`: the one used on a CPU, and the largest on a GPU, which gains nothing beyond.
CPU_BATCH, LARGEST_GPU_BATCH = 128, 512
HELD = 2  # batches behind the last one that whoever uses them may not have saved yet


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
