"""The published loop: diffusers' text-to-image LoRA script, which TCKR (arXiv 2504.04582) uses as its `lora.py`."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from benchmarks.measure import now
from benchmarks.stable_diffusion import Size, files
from diffusers import DDPMScheduler
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from tckr.diffusion.options import ATTENTION

EFFECTIVE = 4  # images a step, one after the other


class Files(Dataset[dict[str, Tensor]]):
    """Decodes, crops, flips and tokenises one image at a time, as the script's transforms do."""

    def __init__(self, pipeline: Any, images: Tensor, texts: Sequence[str], size: Size) -> None:
        self._images, self._texts = files(images), texts
        self._tokenizer, self._side = pipeline.tokenizer, size.side

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        image = (
            self._images[index]
            .convert("RGB")
            .resize((self._side, self._side), Image.Resampling.BILINEAR)
        )
        if random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 127.5 - 1
        tokens = self._tokenizer(
            self._texts[index],
            max_length=self._tokenizer.model_max_length,
            padding="max_length",
            truncation=True,
            return_tensors="pt",
        ).input_ids[0]
        return {"pixels": pixels, "tokens": tokens}


class Published:
    """The published loop."""

    def __init__(self, pipeline: Any, images: Tensor, texts: Sequence[str], size: Size) -> None:
        self.pipeline, self.device = pipeline, pipeline.device
        self.half = self.device.type == "cuda"
        self.data = Files(pipeline, images, texts, size)
        self.noising = DDPMScheduler.from_config(pipeline.scheduler.config)

    def run(self, seed: int, steps: int) -> tuple[list[float], list[float], float]:
        """Adapt from the start.

        Returns:
            the mean loss of each step, the time at which it began or, last, ended, and how far the adapter moved.
        """
        torch.manual_seed(seed)
        random.seed(seed)
        trained = self._add_adapter()
        optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=1e-2)
        scaler = torch.amp.GradScaler(self.device.type, enabled=self.half)
        losses, times = [], []
        batches = self._batches()
        for _ in range(steps):
            times.append(now())
            total = 0.0
            for _ in range(EFFECTIVE):
                loss = self.loss(*self.encode(next(batches)))
                total += loss.item() / EFFECTIVE
                scaler.scale(loss / EFFECTIVE).backward()
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            losses.append(total)
        times.append(now())
        moved = distance(get_peft_model_state_dict(self.pipeline.unet))
        self.pipeline.unet.unload_lora()
        return losses, times, moved

    def _add_adapter(self) -> list[Tensor]:
        unet = self.pipeline.unet
        lora = LoraConfig(
            r=4, lora_alpha=4, init_lora_weights="gaussian", target_modules=list(ATTENTION)
        )
        unet.add_adapter(lora)
        trained = [parameter for parameter in unet.parameters() if parameter.requires_grad]
        for parameter in trained:
            parameter.data = parameter.data.float()
        return trained

    def _batches(self) -> Any:
        while True:
            yield from DataLoader(self.data, batch_size=1, shuffle=True)

    @torch.no_grad()
    def encode(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Latents and text embeddings."""
        vae = self.pipeline.vae
        pixels = batch["pixels"].to(self.device, vae.dtype)
        latents = vae.encode(pixels).latent_dist.sample() * vae.config.scaling_factor
        return latents, self.pipeline.text_encoder(batch["tokens"].to(self.device))[0]

    def loss(self, latents: Tensor, words: Tensor) -> Tensor:
        """Mean squared error of the predicted noise."""
        noise = torch.randn_like(latents)
        steps = torch.randint(len(self.noising), (len(latents),), device=self.device)
        noisy = self.noising.add_noise(latents, noise, steps)
        with torch.autocast(self.device.type, torch.float16, enabled=self.half):
            predicted = self.pipeline.unet(noisy, steps, words, return_dict=False)[0]
        return functional.mse_loss(predicted.float(), noise.float())

    def flops(self) -> tuple[float, float]:
        """Operations an image: of autoencoder and text encoder, and of the denoiser, forwards and backwards."""
        self._add_adapter()
        with FlopCounterMode(display=False) as encoding:
            encoded = self.encode(next(self._batches()))
        with FlopCounterMode(display=False) as step:
            self.loss(*encoded).backward()
        self.pipeline.unet.unload_lora()
        return encoding.get_total_flops(), step.get_total_flops()


def distance(weights: dict[str, Tensor]) -> float:
    """Root mean square of the second factors, which start at zero."""
    squares = torch.cat(
        [tensor.float().flatten() for name, tensor in weights.items() if "lora_B" in name]
    )
    return float(squares.square().mean().sqrt())
