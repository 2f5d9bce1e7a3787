"""A generator's denoiser as the papers write it, eps_theta(x_t, t), whatever it was trained to predict."""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from tckr.diffusion.embeddings import PromptEmbeds
from tckr.errors import UserError


@dataclass(frozen=True)
class Denoiser:
    """The denoiser under the prompts of one batch.

    Attributes:
        unet: a diffusers UNet.
        schedule: noise schedule that it was trained with.
        prompt_embeds: of the B images of the batch.
    """

    unet: Any
    schedule: DDPMScheduler
    prompt_embeds: PromptEmbeds

    def signal(self, step: int) -> float:
        """Return the share of the variance of x_t that is image, bar alpha_t (Ho et al. 2020, equation 4)."""
        return float(self.schedule.alphas_cumprod[step])

    def step(self, share: float) -> int:
        """Return the timestep at a share of the schedule, 0 to 1."""
        return min(
            int(share * self.schedule.config.num_train_timesteps),
            self.schedule.config.num_train_timesteps - 1,
        )

    def noised(self, latents: Tensor, noise: Tensor, step: int) -> Tensor:
        """Return x_t = sqrt(bar alpha_t) x_0 + sqrt(1 - bar alpha_t) eps."""
        return self.schedule.add_noise(latents, noise, torch.tensor(step))

    def predict_noise(self, noisy: Tensor, step: int) -> Tensor:
        """Return eps_theta(x_t, t), float32 like `noisy` (B, C, h, w).

        Raises:
            UserError: it predicts neither noise, velocity nor the image.
        """
        steps = torch.full((len(noisy),), step, device=noisy.device)
        inputs = noisy.to(self.prompt_embeds.dtype)
        (predicted,) = self.unet(
            inputs, steps, return_dict=False, **self.prompt_embeds.unet_kwargs()
        )
        predicted = predicted.float()
        a, b = self.signal(step) ** 0.5, (1 - self.signal(step)) ** 0.5
        match self.schedule.config.prediction_type:
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
            f"The generator predicts {self.schedule.config.prediction_type}.",
            "give one that predicts epsilon, v_prediction or sample.",
        )

    def ddim(self, noisy: Tensor, step: int, to: int) -> Tensor:
        """Return x_to, the deterministic DDIM step from x_step either way (Song et al. 2021, equation 12, sigma = 0)."""
        noise = self.predict_noise(noisy, step)
        here, there = self.signal(step), self.signal(to)
        image = (noisy - (1 - here) ** 0.5 * noise) / here**0.5
        return there**0.5 * image + (1 - there) ** 0.5 * noise
