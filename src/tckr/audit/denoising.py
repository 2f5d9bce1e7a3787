"""White-box signals of a generator: how well its denoiser fits an image.

Only the denoiser is adapted to the private set, so only its predictions can tell members apart. All models of one
audit (base, adapted, shadow adapters) get exactly the same queries: noise and timesteps depend on the seed alone.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from tckr.diffusion.embeddings import PromptEmbeds, encode_prompts
from tckr.diffusion.latents import encode_images
from tckr.diffusion.loss import noise_schedule
from tckr.diffusion.options import AdaptationOptions
from tckr.diffusion.pipeline import load
from tckr.diffusion.update import Adaptation
from tckr.engine.progress import track
from tckr.errors import UserError

# Timestep of the single query, as a share of the schedule, and the order of the norm of its prediction.
ONE_QUERY = 0.2
NORM = 4
# Errors below this are rounding.
SMALLEST = 1e-12


@torch.inference_mode()
def denoising_signals(
    pipeline: Any,
    images: Tensor,
    prompts: Sequence[str],
    *,
    timesteps: Sequence[float] = (0.1, 0.3, 0.5),
    noises: int = 1,
    seed: int = 0,
    batch_size: int = 256,
) -> dict[str, NDArray[np.float64]]:
    """Return what the denoiser's predictions say about each image; larger = more likely a member.

    `loss`: minus the log of the mean squared error of the predicted noise (Ho et al. 2020, equation 14), averaged over
    the timesteps (Matsumoto et al., arXiv 2302.03262, and Carlini et al., arXiv 2301.13188, attack with the loss).
    `one_query`: SimA (Rao et al., arXiv 2509.25003), minus the log of the 4-norm of the noise predicted in the
    *clean* latent at one small timestep: the denoiser points from there to the mean of the training images nearby,
    which for a memorized image is the image itself. The logarithm ranks images as the error does, and makes
    differences between models relative.

    Args:
        pipeline: base or adapted generator; all models of an audit need the same precision of weights.
        images: uint8 (N, C, H, W), fitted into the generator's frame as its adaptation does.
        prompts: N prompts, as the adaptation reads them.
        timesteps: of `loss`, as shares of the noise schedule in (0, 1).
        noises: of `loss`, noise samples per timestep, the same for every image.
        seed: of the noise.
        batch_size: images at a time.

    Returns:
        `loss` and `one_query`, float64 (N,) each.

    Raises:
        UserError: there are no images, their number is not that of the prompts, a timestep lies outside
            (0, 1), or the generator's prediction type is unknown.
    """
    _check(images, prompts, timesteps, noises)
    schedule, unet = noise_schedule(pipeline), pipeline.unet
    shape = (unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
    source = torch.Generator().manual_seed(seed)
    noise = torch.randn((len(timesteps), noises, *shape), generator=source).to(pipeline.device)
    losses, norms = [], []
    parts = encode_images(pipeline, images, batch_size=batch_size)
    starts = range(0, len(images), batch_size)
    for start, encoded in zip(track(starts, "denoising signals"), parts, strict=True):
        latents = encoded.float()
        prompt_embeds = encode_prompts(pipeline, prompts[start : start + batch_size])
        loss = torch.zeros(len(latents), dtype=torch.float64, device=latents.device)
        for share, draws in zip(timesteps, noise, strict=True):
            step = _step(schedule, share)
            errors = [
                _predict_noise(
                    pipeline,
                    schedule.add_noise(latents, one, torch.tensor(step)),
                    step,
                    prompt_embeds,
                    schedule,
                )
                - one
                for one in draws
            ]
            loss -= _log(torch.stack(errors).double().square().mean((0, 2, 3, 4))) / len(timesteps)
        step = _step(schedule, ONE_QUERY)
        predicted = _predict_noise(pipeline, latents, step, prompt_embeds, schedule)
        losses.append(loss)
        norms.append(-_log(predicted.double().flatten(1).norm(p=NORM, dim=1)))
    return {"loss": torch.cat(losses).cpu().numpy(), "one_query": torch.cat(norms).cpu().numpy()}


def query_generator(
    options: AdaptationOptions,
    adapter: Adaptation | None,
    images: Tensor,
    prompts: Sequence[str],
    *,
    device: str,
    **queries: Any,
) -> dict[str, NDArray[np.float64]]:
    """Return the `denoising_signals` of the generator with the adapter merged in; without one, of the base generator.

    All in float32: merged into weights of half the precision, a small update would be lost in rounding, and
    with it what an attacker who has the adapter can see.

    Args:
        options: name the generator and its resolution.
        adapter: update of the generator, or None.
        images: uint8 (N, C, H, W).
        prompts: N prompts.
        device: where to compute.
        queries: timesteps, noises, seed and batch size of `denoising_signals`.
    """
    pipeline = load(options.generator, device, options.resolution).to(torch.float32)
    if adapter is not None:
        adapter.apply(pipeline)
    return denoising_signals(pipeline, images, prompts, **queries)


def calibrated(adapted: ArrayLike, base: ArrayLike) -> NDArray[np.float64]:
    """Subtract the base generator's signal, which no private image has touched, from the adapted one's.

    Difficulty calibration without shadows (Watson et al., ICLR 2022, arXiv 2111.08440): what any model finds hard in
    an image cancels; the difference of log errors is a relative improvement.

    Args:
        adapted: (N,).
        base: (N,), of the same images and queries.

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


def _predict_noise(
    pipeline: Any,
    noisy: Tensor,
    step: int,
    prompt_embeds: PromptEmbeds,
    schedule: DDPMScheduler,
) -> Tensor:
    """Return the noise that the denoiser predicts in latents (N, C, h, w), float32, whatever its prediction type."""
    steps = torch.full((len(noisy),), step, device=noisy.device)
    inputs = noisy.to(prompt_embeds.dtype)
    (predicted,) = pipeline.unet(inputs, steps, return_dict=False, **prompt_embeds.unet_kwargs())
    predicted = predicted.float()
    signal = schedule.alphas_cumprod[step].item()
    a, b = signal**0.5, (1 - signal) ** 0.5
    match schedule.config.prediction_type:
        case "epsilon":
            return predicted
        case "v_prediction":
            # From v = a e - b x_0 and x_t = a x_0 + b e (Salimans & Ho 2022, section 4): e = a v + b x_t,
            # without a division and hence well defined at every timestep.
            return a * predicted + b * noisy
        case "sample":
            # From x_t = a x_0 + b e.
            return (noisy - a * predicted) / b
    raise UserError(
        f"The generator predicts {schedule.config.prediction_type}.",
        "give one that predicts epsilon, v_prediction or sample.",
    )


def _log(values: Tensor) -> Tensor:
    """Return the logarithm, finite also at 0."""
    return values.clamp(min=SMALLEST).log()


def _step(schedule: DDPMScheduler, share: float) -> int:
    """Return the timestep at a share of the schedule."""
    return int(share * schedule.config.num_train_timesteps)


def _check(images: Tensor, prompts: Sequence[str], timesteps: Sequence[float], noises: int) -> None:
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
