"""Draw images from a generator."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tckr.diffusion.batches import BatchSize, evenly, guess
from tckr.diffusion.cache import GIB, keep, scratch
from tckr.diffusion.drawing import Draw, Request
from tckr.diffusion.options import SamplingOptions
from tckr.diffusion.words import embed, encode_in_parts
from tckr.engine import map_shards
from tckr.overlap import behind, to_host
from tckr.progress import track

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


def _on_cpu(request: Request) -> Iterator[Tensor]:
    """Batches drawn side by side by `workers` processes."""
    size = ON_CPU if request.options.batch_size == "auto" else request.options.batch_size
    count = len(request.rows)
    shards = [range(start, min(start + size, count)) for start in range(0, count, size)]
    yield from map_shards(
        _shard, shards, request.options.workers, "synthetic images", shared=request
    )


def _shard(rows: range, request: Request) -> Tensor:
    draw = Draw(request, compiled=False)
    return torch.cat(list(BatchSize(len(rows)).over(rows, draw)))


def _on_gpu(request: Request) -> Iterator[Tensor]:
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


def _largest(request: Request) -> int:
    """The batch that was asked for, or what seems to fit."""
    asked = request.options.batch_size
    if asked != "auto":
        return asked
    eager = Draw(request, compiled=False)
    return min(LARGEST, guess(lambda rows: eager.denoise(rows, only=1), request.pipeline.device))
