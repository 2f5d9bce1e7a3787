"""Registry of the white-box signals of a generator: what an attacker computes with the denoiser about one image.

Adding one is an entry of `SIGNALS` and its name in `options.SignalName`. All are minus the log of an error, which ranks images
as the error does and makes differences between models relative; larger = more likely a member. Shadow adapters, or the
generator before adaptation, calibrate every one of them alike (`tckr.audit.threats`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from tckr.audit.denoiser import Denoiser
from tckr.audit.options import SECMI_STEPS, SignalName

# As in the papers, on a schedule of 1,000 steps: SimA and PIA at t = 200 with the 4-norm, SecMI at t = 100.
ONE_QUERY, PIA, SECMI = 0.2, 0.2, 0.1
NORM = 4
# Errors below this are rounding.
SMALLEST = 1e-12


@dataclass(frozen=True)
class Queries:
    """What the loss is computed with, the same for every model and image.

    Attributes:
        timesteps: shares of the schedule, in (0, 1).
        noise: (timesteps, draws, C, h, w), standard normal.
    """

    timesteps: tuple[float, ...]
    noise: Tensor


@dataclass(frozen=True)
class Signal:
    """One entry of the registry.

    Attributes:
        name: in configuration and results.
        title: in the report.
        function: of the denoiser, the latents (B, C, h, w) of the images and the queries; returns float64 (B,).
    """

    name: SignalName
    title: str
    function: Callable[[Denoiser, Tensor, Queries], Tensor]


def loss(denoiser: Denoiser, latents: Tensor, queries: Queries) -> Tensor:
    """Return minus the log of the mean squared error of the predicted noise, averaged over the timesteps.

    Ho et al. 2020, equation 14; Matsumoto et al. (arXiv 2302.03262) and Carlini et al. (arXiv 2301.13188) attack with it.
    """
    total = torch.zeros(len(latents), dtype=torch.float64, device=latents.device)
    for share, draws in zip(queries.timesteps, queries.noise, strict=True):
        step = denoiser.step(share)
        errors = [
            denoiser.predict_noise(denoiser.noised(latents, one, step), step) - one for one in draws
        ]
        total -= _log(torch.stack(errors).double().square().mean((0, 2, 3, 4)))
    return total / len(queries.timesteps)


def one_query(denoiser: Denoiser, latents: Tensor, queries: Queries) -> Tensor:
    """Return minus the log of the 4-norm of the noise found in the *clean* latent: SimA (Rao et al., arXiv 2509.25003).

    The denoiser points from there to the mean of the training images nearby, which for a memorized image is the image.
    """
    del queries
    return _minus_log_norm(denoiser.predict_noise(latents, denoiser.step(ONE_QUERY)))


def pia(denoiser: Denoiser, latents: Tensor, queries: Queries) -> Tensor:
    """Return minus the log error of PIA, the proximal initialization attack (Kong et al., ICLR 2024, arXiv 2305.18355).

    The noise is no draw but the one that the denoiser itself finds in the image at t = 0: on the ground-truth trajectory of a
    memorized image, it finds the same at t.
    """
    del queries
    own, step = denoiser.predict_noise(latents, 0), denoiser.step(PIA)
    # Section 3, R_{t,p} = |eps(x_0, 0) - eps(sqrt(bar alpha_t) x_0 + sqrt(1 - bar alpha_t) eps(x_0, 0), t)|_p, p = 4.
    found = denoiser.predict_noise(denoiser.noised(latents, own, step), step)
    return _minus_log_norm(own - found)


def secmi(denoiser: Denoiser, latents: Tensor, queries: Queries) -> Tensor:
    """Return minus the log of SecMI's t-error (Duan et al., ICML 2023, arXiv 2302.01316), its statistic without a network.

    The image is noised deterministically up to t_SEC, one step further, and that step back: what comes out is nearer to
    what went in for images that were trained on.
    """
    del queries
    grid = [denoiser.step(SECMI * i / SECMI_STEPS) for i in range(SECMI_STEPS + 2)]
    reached = latents
    for step, to in pairwise(grid[:-1]):
        reached = denoiser.ddim(reached, step, to)  # Phi_theta(x_0, t_SEC), by phi_theta
    # Section 3, t-error: |psi_theta(phi_theta(x_t, t), t) - x_t|^2.
    further = denoiser.ddim(reached, grid[-2], grid[-1])
    back = denoiser.ddim(further, grid[-1], grid[-2])
    return -_log((back - reached).double().square().flatten(1).sum(1))


# fmt: off
SIGNALS: dict[str, Signal] = {signal.name: signal for signal in (
    Signal("loss", "denoising loss", loss),
    Signal("one_query", "noise predicted in the clean latent (SimA)", one_query),
    Signal("pia", "noise found in the image against that found in the image with it (PIA)", pia),
    Signal("secmi", "a deterministic step of noise and back (SecMI)", secmi),
)}
# fmt: on


def _minus_log_norm(noise: Tensor) -> Tensor:
    return -_log(noise.double().flatten(1).norm(p=NORM, dim=1))


def _log(values: Tensor) -> Tensor:
    """Return the logarithm, finite also at 0."""
    return values.clamp(min=SMALLEST).log()
