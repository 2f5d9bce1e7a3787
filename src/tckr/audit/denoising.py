"""White-box signals of a generator: how well its denoiser knows an image.

Only the denoiser is adapted to the private set, so only its answers can tell members apart. All models of one audit
(base, adapted, shadow adapters) are asked the very same questions: noise and timesteps depend on the seed alone.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from tckr.diffusion.embeddings import PromptEmbeds, encode_prompts
from tckr.diffusion.lora import Adapter
from tckr.diffusion.loss import noise_schedule
from tckr.diffusion.options import AdaptationOptions
from tckr.diffusion.pipeline import encode_images, load
from tckr.engine.progress import track
from tckr.errors import UserError

# Share of the schedule at which the single query is made, and the norm that is taken of the answer.
ONE_QUERY = 0.2
NORM = 4
# An error below this is rounding.
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
    """What the denoiser's answers say about each image; larger = more likely a member.

    `loss`: minus the log of the mean squared error of the predicted noise (Ho et al. 2020, equation 14), averaged over
    the timesteps (Matsumoto et al., arXiv 2302.03262, and Carlini et al., arXiv 2301.13188, attack with the loss).
    `one_query`: SimA (Rao et al., arXiv 2509.25003), minus the log of the 4-norm of the noise predicted in the
    *clean* latent at one small timestep: the denoiser points from there to the mean of the training images nearby,
    which for a memorised image is the image itself. The logarithm ranks as the error does, and makes
    differences between models relative.

    Args:
        pipeline: base or adapted generator; give all models of an audit the same weights' precision.
        images: uint8 (N, C, H, W), fitted into the generator's frame as its adaptation does.
        prompts: N prompts, as the adaptation reads them.
        timesteps: of `loss`, as shares of the noise schedule in (0, 1).
        noises: of `loss`, draws at each timestep; the same for every image.
        seed: of the noise.
        batch_size: images at once.

    Returns:
        `loss` and `one_query`, float64 (N,) each.

    Raises:
        UserError: the numbers of images and prompts differ, there are none, a timestep lies outside (0, 1), or the
            generator predicts something unknown.
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
        answer = _predict_noise(
            pipeline, latents, _step(schedule, ONE_QUERY), prompt_embeds, schedule
        )
        losses.append(loss)
        norms.append(-_log(answer.double().flatten(1).norm(p=NORM, dim=1)))
    return {"loss": torch.cat(losses).cpu().numpy(), "one_query": torch.cat(norms).cpu().numpy()}


def ask(
    options: AdaptationOptions,
    adapter: Adapter | None,
    images: Tensor,
    prompts: Sequence[str],
    *,
    device: str,
    **queries: Any,
) -> dict[str, NDArray[np.float64]]:
    """`denoising_signals` of the generator that is adapted; without an adapter, of the one that it was.

    In float32 throughout: merged into weights of half the precision, a small update would be lost in rounding, and
    with it what an attacker who holds the adapter can see.
    """
    pipeline = load(options.generator, device, options.resolution).to(torch.float32)
    if adapter is not None:
        adapter.apply(pipeline)
    return denoising_signals(pipeline, images, prompts, **queries)


def calibrated(adapted: ArrayLike, base: ArrayLike) -> NDArray[np.float64]:
    """The adapted generator's signal less the base generator's, which no private image has touched; no shadows.

    What any model finds hard in an image cancels; of log errors the difference is a relative improvement (difficulty calibration: Watson et al., ICLR 2022, arXiv 2111.08440).

    Args:
        adapted: (N,).
        base: (N,), of the same images and queries.

    Returns:
        float64 (N,).
    """
    after, before = np.asarray(adapted, dtype=np.float64), np.asarray(base, dtype=np.float64)
    if after.shape != before.shape:
        raise UserError(
            f"Signals {after.shape} and {before.shape} do not fit.", "ask both generators the same."
        )
    return after - before


def _predict_noise(
    pipeline: Any,
    noisy: Tensor,
    step: int,
    prompt_embeds: PromptEmbeds,
    schedule: DDPMScheduler,
) -> Tensor:
    """The noise that the denoiser finds in latents (N, C, h, w), float32; one of v or x0 is turned into it.

    With v = a e - b x0 and x_t = a x0 + b e (Salimans & Ho 2022, section 4) e = a v + b x_t: no division, hence well
    defined at every timestep.
    """
    steps = torch.full((len(noisy),), step, device=noisy.device)
    inputs = noisy.to(prompt_embeds.dtype)
    answer = pipeline.unet(inputs, steps, return_dict=False, **prompt_embeds.unet_kwargs())[
        0
    ].float()
    signal = schedule.alphas_cumprod[step].item()
    a, b = signal**0.5, (1 - signal) ** 0.5
    match schedule.config.prediction_type:
        case "epsilon":
            return answer
        case "v_prediction":
            return a * answer + b * noisy
        case "sample":
            return (noisy - a * answer) / b
    raise UserError(
        f"The generator predicts {schedule.config.prediction_type}.",
        "give one that predicts epsilon, v_prediction or sample.",
    )


def _log(values: Tensor) -> Tensor:
    return values.clamp(min=SMALLEST).log()


def _step(schedule: DDPMScheduler, share: float) -> int:
    return int(share * schedule.config.num_train_timesteps)


def _check(images: Tensor, prompts: Sequence[str], timesteps: Sequence[float], noises: int) -> None:
    if not len(images) or len(images) != len(prompts):
        raise UserError(
            f"There are {len(images)} images and {len(prompts)} prompts.",
            "give one prompt an image.",
        )
    if not timesteps or noises < 1 or not all(0 < share < 1 for share in timesteps):
        raise UserError(
            f"No loss at timesteps {tuple(timesteps)} with {noises} noises.",
            "give at least one noise and timesteps between 0 and 1, shares of the schedule.",
        )
