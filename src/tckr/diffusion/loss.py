"""The loss that a denoiser is trained and adapted with, and the noise schedule that it needs."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from diffusers import DDPMScheduler
from torch import Tensor
from torch.nn import functional

from tckr.diffusion.embeddings import PromptEmbeds

__all__ = ["DenoisingLoss", "min_snr", "noise_schedule", "stratified"]


class DenoisingLoss:
    """Mean squared error of a denoiser's prediction at random timesteps (Ho et al. 2020, arXiv 2006.11239).

    Args:
        noise_scheduler: the forward process, see `noise_schedule`; its `prediction_type` says what
            the denoiser predicts: the noise (`epsilon`), the velocity or the clean latent (`sample`).
        device: where the latents will be.
        snr_gamma: weight the timesteps by Min-SNR with this gamma; None weights all alike.
        timesteps: one from each equal part of the schedule, which has less variance, or all independent.
    """

    def __init__(
        self,
        noise_scheduler: DDPMScheduler,
        device: torch.device,
        snr_gamma: float | None = None,
        timesteps: Literal["stratified", "independent"] = "stratified",
    ) -> None:
        alphas_cumprod = noise_scheduler.alphas_cumprod.to(device)
        self.alpha = alphas_cumprod.sqrt()
        self.sigma = (1 - alphas_cumprod).sqrt()
        self.prediction_type = noise_scheduler.config.prediction_type
        snr = alphas_cumprod / (1 - alphas_cumprod)
        self.weights = None if snr_gamma is None else min_snr(snr, snr_gamma, self.prediction_type)
        self.sample_timesteps = (
            self.stratified_timesteps if timesteps == "stratified" else self.independent_timesteps
        )

    def __call__(
        self, unet: Callable[..., Any], latents: Tensor, prompt_embeds: PromptEmbeds
    ) -> Tensor:
        """Return the loss of a batch, a scalar.

        Args:
            unet: a diffusers UNet2DConditionModel, or one compiled.
            latents: clean latents x_0, float32 (N, C, h, w).
            prompt_embeds: N rows.
        """
        timesteps = self.sample_timesteps(len(latents))
        noise = torch.randn_like(latents)
        alpha, sigma = (
            self.alpha[timesteps, None, None, None],
            self.sigma[timesteps, None, None, None],
        )
        # Forward process (Ho et al. 2020, eq. 4): x_t = alpha_t x_0 + sigma_t epsilon,
        # where alpha_t^2 is their cumulative product and sigma_t^2 = 1 - alpha_t^2.
        noisy_latents = alpha * latents + sigma * noise
        # v-prediction (Salimans & Ho 2022, section 4): v = alpha_t epsilon - sigma_t x_0.
        target = {
            "epsilon": noise,
            "v_prediction": alpha * noise - sigma * latents,
            "sample": latents,
        }[self.prediction_type]
        inputs = noisy_latents.to(prompt_embeds.dtype)
        model_pred = unet(inputs, timesteps, return_dict=False, **prompt_embeds.unet_kwargs())[0]
        # L_simple (Ho et al. 2020, eq. 14): E || epsilon - epsilon_theta(x_t, t) ||^2.
        if self.weights is None:
            return functional.mse_loss(model_pred.float(), target.float())
        # The same, each example weighted by w_t (Hang et al. 2023, section 3.4).
        errors = functional.mse_loss(model_pred.float(), target.float(), reduction="none")
        return (self.weights[timesteps] * errors.mean((1, 2, 3))).mean()

    def stratified_timesteps(self, count: int) -> Tensor:
        """Draw int64 (count,) timesteps, one from each of `count` equal parts of the schedule."""
        places = torch.rand(1, count, device=self.alpha.device)
        return stratified(places, len(self.alpha)).flatten()

    def independent_timesteps(self, count: int) -> Tensor:
        """Draw int64 (count,) timesteps, each uniform over the whole schedule."""
        return torch.randint(len(self.alpha), (count,), device=self.alpha.device)


def stratified(places: Tensor, steps: int) -> Tensor:
    """Return the timesteps at some places of the equal parts of a schedule.

    Args:
        places: float32 (N, K) in [0, 1), of `torch.rand`: in column k, where in the k-th of K parts.
        steps: T, of the whole schedule.

    Returns:
        int64 (N, K) in 0 .. T - 1.

    >>> stratified(torch.tensor([[0.0, 0.0], [0.5, 0.999]]), 1000).tolist()
    [[0, 500], [250, 999]]
    """
    parts = torch.arange(places.shape[1], device=places.device)
    # K - 1 + u is rounded to K for the largest u, which is the end of the schedule and no step of it.
    return ((parts + places) / len(parts) * steps).long().clamp(max=steps - 1)


def noise_schedule(pipeline: Any) -> DDPMScheduler:
    """Return the forward process that the generator was trained with."""
    return DDPMScheduler.from_config(pipeline.scheduler.config)


def min_snr(snr: Tensor, gamma: float, prediction_type: str) -> Tensor:
    """Return the Min-SNR weight of each timestep (Hang et al. 2023, arXiv 2303.09556, section 3.4).

    Args:
        snr: signal-to-noise ratio alpha_t^2 / sigma_t^2 of each timestep, (T,).
        gamma: the ratio above which a timestep gains no more weight; the paper takes 5.
        prediction_type: `epsilon`, `v_prediction` or `sample`.

    Returns:
        Factors of the mean squared error, (T,).

    >>> snr = torch.tensor([0.0, 1.0, 5.0, 20.0])
    >>> min_snr(snr, 5, "sample").tolist()
    [0.0, 1.0, 5.0, 5.0]
    >>> min_snr(snr, 5, "epsilon").tolist()
    [1.0, 1.0, 1.0, 0.25]
    """
    # In terms of x_0 the weight is w_t = min(SNR, gamma). An error of epsilon is SNR times that of
    # x_0, and one of v is SNR + 1 times (ibid.), so that their factors are w_t / SNR and w_t / (SNR + 1).
    capped = snr.clamp(max=gamma)
    if prediction_type == "epsilon":
        return (gamma / snr).clamp(max=1)  # at SNR 0 the limit, 1
    return capped / (snr + 1) if prediction_type == "v_prediction" else capped
