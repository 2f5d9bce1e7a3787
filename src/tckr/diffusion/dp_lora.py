"""Adapt a generator to a private set under differential privacy: LoRA or all weights by DP-SGD, several noise levels an image.

Yu et al. 2022 (arXiv 2110.06500) for low-rank updates under DP; Dockhorn et al. 2023 (arXiv 2210.09929, section 3.2) for
noise multiplicity: the gradients of K noise levels of an image are averaged *before* clipping, which costs nothing. An
image's own caption is read in that image's passes only, so that it too is inside the clipped gradient.

Each image draws timesteps, noise, wording and orientation for itself. Timesteps are stratified within the passes of one
image, never over a batch: there, one image more would move the timesteps of all others, and clipping would no longer
bound what it changes.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from tckr.diffusion.adapter import Adapter
from tckr.diffusion.embeddings import PromptEmbeds
from tckr.diffusion.lora import _check_moved, _Encoded, _encoded, _weights, _with_lora
from tckr.diffusion.loss import DenoisingLoss, noise_schedule, stratified
from tckr.diffusion.memory import scratch
from tckr.diffusion.options import AdaptationOptions
from tckr.diffusion.private_options import DPAdaptationOptions
from tckr.diffusion.update import Adaptation, DenoiserUpdate
from tckr.dp.budget import Plan
from tckr.dp.ledger import Entry
from tckr.dp.noise import Noise
from tckr.engine.checkpoint import Checkpoint
from tckr.training.private import Loss, private_minimize, private_plan

__all__ = [
    "adapt_privately",
    "adaptation_fingerprint",
    "adaptation_plan",
    "adaptation_size",
    "untouched",
]

DESCRIPTION = "private adaptation"


def adaptation_plan(
    options: DPAdaptationOptions, share: float, name: str = "generator adaptation"
) -> Plan:
    """Return what to plan in the ledger: a Gaussian on a Poisson sample.

    >>> adaptation_plan(DPAdaptationOptions(generator="sd"), share=1).sampling_rate
    0.15
    """
    return private_plan(options.schedule, share, name, adapt_privately)


def adapt_privately(
    pipeline: Any,
    images: Tensor,
    prompts: Sequence[str],
    class_names: Sequence[str],
    options: DPAdaptationOptions,
    entry: Entry,
    noise: Noise,
    seed: int,
    *,
    count: int | None = None,
    checkpoint: Checkpoint | None = None,
    cache_folder: Path | None = None,
) -> Adaptation:
    """Fit an adapter under differential privacy and leave the pipeline as it was.

    The losses are not returned: nothing pays for them.

    Args:
        pipeline: as `pipeline.load` returns it.
        images: uint8 (N, C, H, W).
        prompts: N prompts; prompt i may tell of image i, and of no other.
        class_names: N class names.
        options: method, rank, layers, schedule. A gradient an image of the whole denoiser is large: choose
            `schedule.micro_batch` accordingly.
        entry: what the ledger charged, planned by `adaptation_plan`.
        noise: draws the samples, the noise, and the seed of timesteps, wordings and orientations.
        seed: of the initial weights, which need not be secret.
        count: the number of images as the ledger states it; see `private_minimize`.
        checkpoint: see `private_minimize`.
        cache_folder: as for `tckr.diffusion.lora.adapt`.

    Returns:
        The adapter; of the method `full` what was added to every weight.

    Raises:
        Paused: the checkpoint's deadline has passed.
        UserError: the weights diverged, the ledger charged another schedule, or the checkpoint is of another recipe,
            noise or data.
    """
    given = (images, prompts, class_names, options, entry, noise, seed, count, checkpoint)
    changing = (
        _whole(pipeline.unet)
        if options.method == "full"
        else _with_lora(pipeline.unet, _as_lora(options))
    )
    with _trained(pipeline, changing, *given, cache_folder) as before:
        if options.method == "full":
            return _difference(pipeline.unet, before)
        weights = _weights(pipeline.unet)
    _check_moved(weights)
    return Adapter(weights)


@contextmanager
def _whole(unet: Any) -> Iterator[dict[str, Tensor]]:
    """Let every weight be trained, in float32, for the duration of the block; yield the weights as they were."""
    before = {name: each.data for name, each in unet.named_parameters()}
    for each in unet.parameters():
        each.data = each.data.float().clone()
        each.requires_grad_(True)
    try:
        yield before
    finally:
        for name, each in unet.named_parameters():
            each.data = before[name]
            each.requires_grad_(False)


def _difference(unet: Any, before: Mapping[str, Tensor]) -> DenoiserUpdate:
    """Return what training added to every weight, on the CPU."""
    return DenoiserUpdate(
        {
            name: (each.detach() - before[name].float()).cpu().contiguous()
            for name, each in unet.named_parameters()
        }
    )


@contextmanager
def _trained(
    pipeline: Any,
    trainable: AbstractContextManager[Any],
    images: Tensor,
    prompts: Sequence[str],
    class_names: Sequence[str],
    options: DPAdaptationOptions,
    entry: Entry,
    noise: Noise,
    seed: int,
    count: int | None,
    checkpoint: Checkpoint | None,
    cache_folder: Path | None,
) -> Iterator[Any]:
    """Train what `trainable` makes trainable, and yield what it yields before all is put back; see `adapt_privately`."""
    torch.manual_seed(seed)
    with ExitStack() as stack:
        folder = stack.enter_context(scratch(cache_folder))
        data = _encoded(pipeline, images, prompts, class_names, _as_lora(options), folder)
        made = stack.enter_context(trainable)
        torch.manual_seed(noise.seed())
        private_minimize(
            pipeline.unet,
            denoising_loss(pipeline, data, len(images), options),
            len(images),
            options.schedule,
            entry,
            noise,
            DESCRIPTION,
            count=count,
            checkpoint=checkpoint,
            identity={
                "data": adaptation_fingerprint(images, prompts, class_names, options),
                "seed": seed,
            },
        )
        yield made


def adaptation_fingerprint(
    images: Tensor, prompts: Sequence[str], class_names: Sequence[str], options: DPAdaptationOptions
) -> str:
    """Return a hash of the data and of the options that `private_minimize` does not compare itself."""
    digest = hashlib.sha256(images.contiguous().numpy().data)
    chosen: Mapping[str, Any] = options.model_dump(exclude={"schedule", "cache_gib", "checkpoints"})
    digest.update(repr((list(prompts), list(class_names), sorted(chosen.items()))).encode())
    return digest.hexdigest()


def untouched(pipeline: Any, options: DPAdaptationOptions) -> Adapter:
    """Return an adapter that changes nothing: the second factor of every update is zero."""
    with _with_lora(pipeline.unet, _as_lora(options)):
        return Adapter(_weights(pipeline.unet))


def adaptation_size(options: DPAdaptationOptions) -> int:
    """Return how many weights the adaptation of a generator trains: the numbers that the noise of a step falls on."""
    from tckr.diffusion.pipeline import bare_unet

    unet = bare_unet(options.generator)
    if options.method == "full":
        return sum(weights.numel() for weights in unet.parameters())
    with _with_lora(unet, _as_lora(options)) as trained:
        return sum(weights.numel() for weights in trained)


def _as_lora(options: DPAdaptationOptions) -> AdaptationOptions:
    """Return the options as the adaptation without privacy reads them: rank, alpha, layers, flip and cache are the same."""
    return cast(AdaptationOptions, options)


def denoising_loss(
    pipeline: Any, data: _Encoded, images: int, options: DPAdaptationOptions
) -> Loss:
    """Return the loss of `private_minimize`: of each image the mean over its passes, at noise levels of its own."""
    device, passes = pipeline.device, options.schedule.passes
    measure = DenoisingLoss(noise_schedule(pipeline), device, options.snr_gamma)
    # Of each image one timestep from each of `passes` equal parts of the schedule.
    measure.sample_timesteps = lambda count: stratified(
        torch.rand(count // passes, passes, device=device), len(measure.alpha)
    ).flatten()
    edges = torch.tensor(
        [1 - options.class_only - options.unconditional, 1 - options.unconditional]
    )

    def loss(rows: Tensor) -> Tensor:
        own = rows.cpu().repeat_interleave(passes)
        wording = torch.bucketize(torch.rand(len(own)), edges)
        texts = data.texts[wording, own]
        mirrored = (
            (torch.rand(len(own)) < 0.5)
            if options.flip
            else torch.zeros(len(own), dtype=torch.bool)
        )
        latents = data.latents.read(own + images * mirrored)["latents"]
        prompt_embeds = PromptEmbeds(**data.prompt_embeds.read(texts))
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            mean = measure(pipeline.unet, latents.float(), prompt_embeds)
        return mean * len(rows)

    return loss
