"""Adapt a generator to a private set by low-rank updates (LoRA) of its denoiser.

TCKR (arXiv 2504.04582, section 3): LoRA on the UNet, autoencoder and text encoder frozen, one prompt per image.
"""

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from peft import LoraConfig
from peft.helpers import disable_input_dtype_casting
from peft.utils import get_peft_model_state_dict
from torch import Tensor

from tckr.diffusion.adapter import Adapter
from tckr.diffusion.embeddings import PromptEmbeds, encode_in_batches
from tckr.diffusion.latents import stream_latents
from tckr.diffusion.loss import DenoisingLoss, noise_schedule
from tckr.diffusion.memory import (
    GIB,
    Prefetcher,
    Rows,
    RowsOnDevice,
    RowsOnDisk,
    cache_rows,
    scratch,
)
from tckr.diffusion.options import AdaptationOptions, DenoiserOptions
from tckr.engine.checkpoint import Checkpoint
from tckr.engine.seeds import derive
from tckr.options import recipe
from tckr.training.loop import minimize

__all__ = ["Adapter", "adapt"]

NAME = "private"
CHECK_AT = 10  # steps after which the weights must have moved
PART = 256  # images or prompts encoded at a time

Snapshot = Callable[[int, Any], None]
"""Called as `snapshot(steps_done, pipeline)`, the pipeline adapted so far; it must leave both as they are."""


def adapt(
    pipeline: Any,
    images: Tensor,
    prompts: Sequence[str],
    class_names: Sequence[str],
    options: AdaptationOptions,
    seed: int,
    *,
    checkpoint: Checkpoint | None = None,
    cache_folder: Path | None = None,
    snapshot_every: int = 0,
    snapshot: Snapshot | None = None,
    keep_at: Collection[int] = (),
    keep: Callable[[int, Adapter], None] | None = None,
    stop: int | None = None,
) -> tuple[Adapter, pd.DataFrame]:
    """Fit an adapter to labelled, captioned images and leave the pipeline as it was.

    The seed fixes the order of the images: one random permutation of all of them per pass.

    Args:
        pipeline: as `pipeline.load` returns it.
        images: uint8 (N, C, H, W).
        prompts: N prompts.
        class_names: N class names, which a share of the steps reads instead of the prompts.
        options: rank, layers, schedule and loss.
        seed: of the initial weights, the order of the images, the noise and the timesteps.
        checkpoint: where unfinished work is kept; see `tckr.training.loop.minimize`.
        cache_folder: where latents and text embeddings that exceed `options.cache_gib` are stored
            meanwhile; by default the scratch folder of the run (`tckr.engine.scratch`).
        snapshot_every: steps between two calls of `snapshot`; 0 for none.
        snapshot: called with the number of steps done and the pipeline adapted so far.
        keep_at: numbers of steps after which `keep` is called.
        keep: called as `keep(steps_done, adapter)`, the adapter that there would be if the training ended here.
        stop: end after so many steps of the schedule.

    Returns:
        The adapter, with alpha / rank folded in, and the loss curve (step, loss).

    Raises:
        Paused: the checkpoint's deadline has passed.
        UserError: the loss diverges.
        RuntimeError: no gradient reaches the adapter.
    """
    torch.manual_seed(seed)
    with ExitStack() as stack:
        folder = stack.enter_context(scratch(cache_folder))
        data = _encoded(pipeline, images, prompts, class_names, options, folder)
        trained = stack.enter_context(_with_lora(pipeline.unet, options))
        names = [name for name, p in pipeline.unet.named_parameters() if p.requires_grad]

        def kept(done: int, weights: Sequence[Tensor]) -> None:
            if keep:
                own = {
                    name.replace(f".{NAME}.", "."): w
                    for name, w in zip(names, weights, strict=True)
                }
                keep(done, Adapter(_scaled(_stored(own), options)))

        def look(index: int) -> None:
            if index == CHECK_AT:
                _check_moved(_weights(pipeline.unet))
            if snapshot and snapshot_every and index and index % snapshot_every == 0:
                with half_precision(pipeline.device), _preserved_rng(pipeline.device):
                    snapshot(index, pipeline)

        losses = fit_denoiser(
            pipeline,
            data,
            trained,
            options,
            seed,
            "adaptation",
            checkpoint=checkpoint,
            identity={"data": _fingerprint(images, prompts, class_names, options)}
            if checkpoint
            else None,
            look=look,
            keep_at=keep_at,
            keep=kept,
            stop=stop,
        )
        weights = _weights(pipeline.unet)
    _check_moved(weights)
    return Adapter(_scaled(weights, options)), losses


def fit_denoiser(
    pipeline: Any,
    data: "_Encoded",
    trained: Sequence[Tensor],
    options: DenoiserOptions,
    seed: int,
    description: str,
    *,
    checkpoint: Checkpoint | None = None,
    identity: Mapping[str, Any] | None = None,
    look: Callable[[int], None] | None = None,
    **kept: Any,
) -> pd.DataFrame:
    """Minimize the denoising loss of encoded images over some weights of the denoiser, in place.

    Args:
        pipeline: whose denoiser has these weights.
        data: of `_encoded`.
        trained: float32.
        options: schedule and loss.
        seed: of the order of the images; noise and timesteps come from torch's default generators.
        description: see `tckr.training.loop.minimize`, as checkpoint, identity and `kept` (keep_at, keep, stop).
        look: called with the number of steps done before each step.

    Returns:
        The loss curve (step, loss).
    """
    device, count = pipeline.device, data.count
    schedule, on_gpu = options.schedule_for(count), device.type == "cuda"
    denoising_loss = DenoisingLoss(
        noise_schedule(pipeline), device, options.snr_gamma, options.timesteps
    )
    network = (
        torch.compile(pipeline.unet, dynamic=False) if options.compile and on_gpu else pipeline.unet
    )
    slices = _slices(schedule.batch_size, options.micro_batch)
    parts = cycle(slices)
    with closing(_Feed(data, _plan(data, count, options, seed))) as feed:

        def loss() -> Tensor:
            part = next(parts)
            with half_precision(device):
                return denoising_loss(network, feed.latents[part].float(), feed.prompt_embeds[part])

        def prepare(index: int) -> None:
            if look:
                look(index)
            feed.turn(index)

        return minimize(
            trained,
            loss,
            schedule,
            description,
            capture=True,
            checkpoint=checkpoint,
            identity=identity,
            prepare=prepare,
            accumulate=len(slices),
            **kept,
        )


def half_precision(device: torch.device) -> torch.autocast:
    """Return the context in which a denoiser computes: bfloat16 on a GPU, float32 on a CPU."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


@contextmanager
def _with_lora(unet: Any, options: AdaptationOptions) -> Iterator[list[Tensor]]:
    """Add an untrained update to every wanted layer for the duration of the block; yield its weights, float32."""
    lora = LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha or options.rank,
        init_lora_weights="gaussian",
        target_modules=_present(unet, options.target_modules),
    )
    unet.add_adapter(lora, adapter_name=NAME)
    try:
        trained = [parameter for parameter in unet.parameters() if parameter.requires_grad]
        for parameter in trained:
            parameter.data = parameter.data.float()
        # Autocast casts where it must; peft's own casts to the weights' float32 would only cost memory traffic.
        with disable_input_dtype_casting(unet, active=unet.device.type == "cuda"):
            yield trained
    finally:
        unet.unload_lora()


def _present(unet: torch.nn.Module, names: Sequence[str]) -> list[str]:
    """Return the full names of the wanted layers that this denoiser has."""
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    suffixes = tuple(f".{name}" for name in names)
    return [
        name
        for name, module in unet.named_modules()
        if isinstance(module, kinds) and (name in names or name.endswith(suffixes))
    ]


@dataclass(frozen=True)
class _Encoded:
    """The training data of the denoiser, computed once.

    Attributes:
        latents: row i is image i; with `flip`, row N + i is image i mirrored.
        prompt_embeds: one row per distinct text.
        texts: int64 (3, N), rows of `prompt_embeds`: each image's prompt, its class name, the empty text.
    """

    latents: Rows
    prompt_embeds: Rows
    texts: Tensor

    @property
    def count(self) -> int:
        """N, the images without their mirrored twins."""
        return self.texts.shape[1]


def _encoded(
    pipeline: Any,
    images: Tensor,
    prompts: Sequence[str],
    class_names: Sequence[str],
    options: DenoiserOptions,
    folder: Path,
) -> _Encoded:
    budget = options.cache_gib * GIB
    latents = cache_rows(
        ({"latents": part} for part in stream_latents(pipeline, images, options.flip, PART)),
        len(images) * (2 if options.flip else 1),
        budget,
        folder / "latents",
    )
    place: dict[str, int] = {}
    texts = [
        [place.setdefault(text, len(place)) for text in column]
        for column in (prompts, class_names, [""] * len(images))
    ]
    prompt_embeds = cache_rows(
        (part.tensors() for part in encode_in_batches(pipeline, list(place), PART)),
        len(place),
        budget - latents.size,
        folder / "prompt_embeds",
    )
    return _Encoded(latents, prompt_embeds, torch.tensor(texts))


@dataclass(frozen=True)
class _Plan:
    """Rows that each step reads, of the latents and of the texts; both int64 (steps, batch)."""

    images: Tensor
    texts: Tensor


def _plan(data: _Encoded, count: int, options: DenoiserOptions, seed: int) -> _Plan:
    """Choose the images of every step: pass after pass in random order, wording and orientation drawn each time.

    The choice depends on the seed alone, so that a run resumed from a checkpoint sees the same images.
    """
    schedule = options.schedule_for(count)
    shape = (schedule.steps, schedule.batch_size)
    wanted = schedule.steps * schedule.batch_size
    draw = torch.Generator().manual_seed(derive(seed, "order"))  # a stream apart from the noise
    passes = [torch.randperm(count, generator=draw) for _ in range(-(-wanted // count))]
    chosen = torch.cat(passes)[:wanted]
    edges = torch.tensor(
        [1 - options.class_only - options.unconditional, 1 - options.unconditional]
    )
    wording = torch.bucketize(torch.rand(wanted, generator=draw), edges)
    texts = data.texts[wording, chosen]
    if options.flip:
        chosen = chosen + count * (torch.rand(wanted, generator=draw) < 0.5)
    return _Plan(chosen.view(shape), texts.view(shape))


class _Feed:
    """The current batch, always in the same tensors, because a captured CUDA graph reads them by address."""

    def __init__(self, data: _Encoded, plan: _Plan) -> None:
        self._data = data
        self._images, self._texts = (
            # Rows on the device are indexed there; those on disk by indices on the host.
            rows.to(store.device) if isinstance(store, RowsOnDevice) else rows
            for store, rows in ((data.latents, plan.images), (data.prompt_embeds, plan.texts))
        )
        self.latents, self.prompt_embeds = self._read(0)
        on_disk = isinstance(data.latents, RowsOnDisk) or isinstance(data.prompt_embeds, RowsOnDisk)
        self._ahead = Prefetcher(self._read, len(plan.images)) if on_disk else None

    def _read(self, index: int) -> tuple[Tensor, PromptEmbeds]:
        latents = self._data.latents.read(self._images[index])["latents"]
        return latents, PromptEmbeds(**self._data.prompt_embeds.read(self._texts[index]))

    def turn(self, index: int) -> None:
        """Load the batch of step `index`."""
        latents, prompt_embeds = self._ahead(index) if self._ahead else self._read(index)
        self.latents.copy_(latents)
        fresh = prompt_embeds.tensors()
        for name, tensor in self.prompt_embeds.tensors().items():
            tensor.copy_(fresh[name])

    def close(self) -> None:
        """Stop reading ahead."""
        if self._ahead:
            self._ahead.close()


def _slices(batch: int, micro: int | None) -> list[slice]:
    """Split a batch into equal micro-batches."""
    size = micro or batch
    return [slice(start, start + size) for start in range(0, batch, size)]


@contextmanager
def _preserved_rng(device: torch.device) -> Iterator[None]:
    """Restore the random state after the block, so that training continues as if it had not run."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


def _fingerprint(
    images: Tensor, prompts: Sequence[str], class_names: Sequence[str], options: DenoiserOptions
) -> str:
    """Return a hash of the data and of all options but those of speed, and the schedule, which a checkpoint compares."""
    digest = hashlib.sha256()
    for part in images.split(PART):
        digest.update(part.contiguous().numpy().data)
    settings = recipe({"adaptation": options})
    settings = {k: value for k, value in settings.items() if ".schedule." not in k}
    values = (list(prompts), list(class_names), settings)
    digest.update(repr(values).encode())
    return digest.hexdigest()


def _weights(unet: torch.nn.Module) -> dict[str, Tensor]:
    """Return the weights of the update, float32 on the CPU, by layer and factor."""
    return _stored(get_peft_model_state_dict(unet, adapter_name=NAME))


def _stored(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies of weights, float32 on the CPU."""
    return {
        name: tensor.detach().to("cpu", torch.float32, copy=True).contiguous()
        for name, tensor in weights.items()
    }


def _scaled(weights: dict[str, Tensor], options: AdaptationOptions) -> dict[str, Tensor]:
    """Fold alpha / rank into the second factors."""
    scale = 1.0 if options.alpha is None else options.alpha / options.rank
    return {name: tensor * scale if "lora_B" in name else tensor for name, tensor in weights.items()}  # fmt: skip


def _check_moved(weights: dict[str, Tensor]) -> None:
    """Raise if all B factors are still zero: such an adapter would change nothing, and nobody would notice."""
    if not any(tensor.abs().max() > 0 for name, tensor in weights.items() if "lora_B" in name):
        raise RuntimeError("The adapter did not move: no gradient reached its weights.")
