"""White-box signals of a generator: how well its denoiser fits an image.

Only the denoiser is adapted to the private set, so only its predictions can tell members apart. All models of one
audit (before adaptation, adapted, shadow adapters) get exactly the same queries: noise and timesteps depend on the seed alone.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from tckr.audit.denoiser import Denoiser
from tckr.audit.denoising_attacks import SIGNALS, Queries
from tckr.audit.options import SignalName
from tckr.diffusion.embeddings import encode_prompts
from tckr.diffusion.latents import encode_images
from tckr.diffusion.loss import noise_schedule
from tckr.diffusion.pipeline import load
from tckr.diffusion.update import Adaptation
from tckr.engine.progress import track
from tckr.errors import UserError
from tckr.synthesizers.text_to_image import Source


@torch.inference_mode()
def denoising_signals(
    pipeline: Any,
    images: Tensor,
    prompts: Sequence[str],
    *,
    signals: Sequence[SignalName] = ("loss", "one_query"),
    timesteps: Sequence[float] = (0.1, 0.3, 0.5),
    noises: int = 1,
    seed: int = 0,
    batch_size: int = 256,
) -> dict[str, NDArray[np.float64]]:
    """Return what the denoiser's predictions say about each image; larger = more likely a member.

    Args:
        pipeline: base or adapted generator; all models of an audit need the same precision of weights.
        images: uint8 (N, C, H, W), fitted into the generator's frame as its adaptation does.
        prompts: N prompts, as the adaptation reads them.
        signals: names in `denoising_attacks.SIGNALS`, which say what each is and whose.
        timesteps: of `loss`, as shares of the noise schedule in (0, 1).
        noises: of `loss`, noise samples per timestep, the same for every image.
        seed: of the noise.
        batch_size: images at a time.

    Returns:
        float64 (N,) by the name of the signal.

    Raises:
        UserError: there are no images, their number is not that of the prompts, a timestep lies outside
            (0, 1), a signal is unknown, or the generator's prediction type is.
    """
    _check(images, prompts, timesteps, noises, signals)
    schedule, unet = noise_schedule(pipeline), pipeline.unet
    shape = (unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
    source = torch.Generator().manual_seed(seed)
    noise = torch.randn((len(timesteps), noises, *shape), generator=source).to(pipeline.device)
    queries = Queries(tuple(timesteps), noise)
    found: dict[str, list[Tensor]] = {name: [] for name in signals}
    parts = encode_images(pipeline, images, batch_size=batch_size)
    starts = range(0, len(images), batch_size)
    for start, encoded in zip(track(starts, "denoising signals"), parts, strict=True):
        prompt_embeds = encode_prompts(pipeline, prompts[start : start + batch_size])
        denoiser, latents = Denoiser(unet, schedule, prompt_embeds), encoded.float()
        for name in signals:
            found[name].append(SIGNALS[name].function(denoiser, latents, queries))
    return {name: torch.cat(values).cpu().numpy() for name, values in found.items()}


def query_generator(
    source: Source,
    updates: Iterable[Adaptation],
    images: Tensor,
    prompts: Sequence[str],
    *,
    device: str,
    **queries: Any,
) -> dict[str, NDArray[np.float64]]:
    """Return the `denoising_signals` of the generator with the updates merged in; without any, of the base generator.

    All in float32: merged into weights of half the precision, a small update would be lost in rounding, and
    with it what an attacker who has the adapter can see.

    Args:
        source: the generator as it was downloaded, and its resolution.
        updates: of the generator, in order.
        images: uint8 (N, C, H, W).
        prompts: N prompts.
        device: where to compute.
        queries: signals, timesteps, noises, seed and batch size of `denoising_signals`.
    """
    pipeline = load(source.generator, device, source.resolution).to(torch.float32)
    for update in updates:
        update.apply(pipeline)
    return denoising_signals(pipeline, images, prompts, **queries)


def calibrated(adapted: ArrayLike, base: ArrayLike) -> NDArray[np.float64]:
    """Subtract the signal of the generator before it was fitted to private images from the adapted one's.

    Difficulty calibration without shadows (Watson et al., ICLR 2022, arXiv 2111.08440): what any model finds hard in
    an image cancels; the difference of log errors is a relative improvement.

    Args:
        adapted: (N,).
        base: (N,), of the same images and queries, before adaptation.

    Returns:
        float64 (N,).

    Raises:
        UserError: the shapes differ.

    >>> calibrated([2.0, 3.0], [1.5, 3.5]).tolist()
    [0.5, -0.5]
    """
    after, before = np.asarray(adapted, dtype=np.float64), np.asarray(base, dtype=np.float64)
    if after.shape != before.shape:
        raise UserError(
            f"Signals {after.shape} and {before.shape} do not fit.",
            "query both generators with the same images.",
        )
    return after - before


def _check(
    images: Tensor,
    prompts: Sequence[str],
    timesteps: Sequence[float],
    noises: int,
    signals: Sequence[str],
) -> None:
    unknown = [name for name in signals if name not in SIGNALS]
    if unknown or not signals:
        raise UserError(
            f"There is no signal {', '.join(unknown) or 'named'}.",
            f"choose of {', '.join(SIGNALS)}.",
        )
    if not len(images) or len(images) != len(prompts):
        raise UserError(
            f"There are {len(images)} images and {len(prompts)} prompts.",
            "give one prompt per image.",
        )
    if not timesteps or noises < 1 or not all(0 < share < 1 for share in timesteps):
        raise UserError(
            f"No loss at timesteps {tuple(timesteps)} with {noises} noises.",
            "give at least one noise and timesteps between 0 and 1, shares of the schedule.",
        )
