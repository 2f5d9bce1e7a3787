"""Fine-tune every weight of a generator's denoiser on a private set, or train it from scratch, and keep snapshots.

Knowledge Recycling (arXiv 2407.15526) and GaFi (arXiv 2305.10118) train the whole generator and choose among its snapshots by
the student that each makes; what is kept are exponential averages of the weights, as theirs are.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from tckr.diffusion.lora import _encoded, _fingerprint, fit_denoiser
from tckr.diffusion.memory import scratch
from tckr.diffusion.options import FinetuningOptions
from tckr.diffusion.snapshots import DenoiserWeights, Kept, Snapshots
from tckr.engine.checkpoint import Checkpoints
from tckr.engine.seeds import derive
from tckr.errors import UserError

__all__ = ["finetune"]


def finetune(
    pipeline: Any,
    images: Tensor,
    class_names: Sequence[str],
    options: FinetuningOptions,
    seed: int,
    *,
    unfinished: Checkpoints | None = None,
    cache_folder: Path | None = None,
) -> tuple[Snapshots, pd.DataFrame]:
    """Train the denoiser on labelled images under the names of their classes, and leave the pipeline as it was.

    With `options.snapshot` the training ends at that snapshot, which is then the only one: the same to the bit as among
    all of them.

    Args:
        pipeline: as `pipeline.load` returns it.
        images: uint8 (N, C, H, W).
        class_names: N names, the prompts.
        options: start, schedule, number of snapshots.
        seed: of the initial weights, the order of the images, the noise and the timesteps.
        unfinished: where the state and the snapshots of a training that was cut short are found again, and kept.
        cache_folder: as for `tckr.diffusion.lora.adapt`.

    Returns:
        The snapshots, averaged where the schedule says so, and the loss curve (step, loss).

    Raises:
        Paused: the deadline of `unfinished` has passed.
        UserError: the loss diverges, or a weight does not fit the type in which it is kept.
    """
    torch.manual_seed(seed)
    wanted = options.wanted(len(images))
    identity = {"data": _fingerprint(images, class_names, class_names, options)}
    kept = Kept(wanted, identity, unfinished)
    with ExitStack() as stack:
        folder = stack.enter_context(scratch(cache_folder))
        data = _encoded(pipeline, images, class_names, class_names, options, folder)
        named = stack.enter_context(_every_weight(pipeline, options, seed))

        def keep(done: int, weights: Sequence[Tensor]) -> None:
            kept.add(done, _stored(dict(zip(named, weights, strict=True)), options))

        losses = fit_denoiser(
            pipeline,
            data,
            list(named.values()),
            options,
            seed,
            "fine-tuning",
            checkpoint=unfinished.of("denoiser") if unfinished else None,
            identity=identity if unfinished else None,
            keep_at=wanted,
            keep=keep,
            stop=max(wanted),
        )
    return kept.snapshots(DenoiserWeights), losses


@contextmanager
def _every_weight(
    pipeline: Any, options: FinetuningOptions, seed: int
) -> Iterator[dict[str, torch.nn.Parameter]]:
    """Let every weight of the denoiser be trained within the block, in float32; yield them by name."""
    unet = pipeline.unet
    named = dict(unet.named_parameters())
    before = {name: weight.data for name, weight in named.items()}
    fresh = _random_weights(unet, derive(seed, "scratch")) if options.start == "scratch" else before
    try:
        for name, weight in named.items():
            start = fresh[name].to(weight.device, torch.float32, copy=True)
            if start.ndim == 4:
                start = start.contiguous(memory_format=torch.channels_last)
            weight.data = start
            weight.requires_grad_(True)
        yield named
    finally:
        for name, weight in named.items():
            weight.requires_grad_(False)
            weight.grad = None
            weight.data = before[name]


def _random_weights(unet: Any, seed: int) -> dict[str, Tensor]:
    """Return the weights of an untrained denoiser of the same shape, drawn by seed, float32 on the CPU."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        untrained = type(unet).from_config(unet.config)
    return {name: weight.data for name, weight in untrained.named_parameters()}


def _stored(weights: dict[str, Tensor], options: FinetuningOptions) -> dict[str, Tensor]:
    """Return copies on the CPU in the type in which snapshots are kept.

    Raises:
        UserError: a weight is too large for it.
    """
    dtype = getattr(torch, options.snapshot_dtype)
    stored = {
        name: weight.detach().to("cpu", dtype, copy=True).contiguous()
        for name, weight in weights.items()
    }
    for name, weight in stored.items():
        if not weight.isfinite().all():
            raise UserError(
                f"A weight of {name} is not finite in {options.snapshot_dtype}.",
                "set snapshot_dtype: float32, or lower schedule.learning_rate.",
            )
    return stored
