"""Prepare a whole batch on the device as a CLIP-like image processor prepares single images."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

MODES = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers
CHUNK = 256  # images in float32 at once: bounds the memory needed beside the batch itself
LEVELS = 2  # of 255: by how much two ways of resizing one image may differ


@dataclass(frozen=True)
class Pixels:
    """Resize to a fixed size, rescale and normalise, as CLIP-like image processors do.

    Like Pillow, resizing smooths when it shrinks, runs along rows first, and rounds to 0..255 after each axis.

    >>> pixels = Pixels(8, 8, "bicubic", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    >>> white = torch.full((2, 3, 16, 16), 255, dtype=torch.uint8)
    >>> prepared = pixels(white)
    >>> prepared.shape, prepared.min().item()
    (torch.Size([2, 3, 8, 8]), 1.0)
    """

    height: int
    width: int
    mode: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Convert uint8 (B, 3, H, W) to `dtype` (B, 3, height, width), on the images' device."""
        return torch.cat([self._prepare(part).to(dtype) for part in images.split(CHUNK)])

    def _prepare(self, images: Tensor) -> Tensor:
        x = images.float()
        for size in ((x.shape[2], self.width), (self.height, self.width)):
            if x.shape[2:] != size:
                x = F.interpolate(x, size, mode=self.mode, antialias=True).round_().clamp_(0, 255)
        mean = torch.tensor(self.mean, device=x.device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=x.device).view(1, -1, 1, 1)
        return (x / 255 - mean) / std

    def agrees(self, image: Tensor, prepared: Tensor) -> bool:
        """Whether the processor's result `prepared`, float (1, 3, h, w), matches ours for uint8 (1, 3, H, W)."""
        ours = self(image)
        if ours.shape != prepared.shape:
            return False
        off = (ours - prepared.float()).abs().amax().item()
        return off <= LEVELS / 255 / min(self.std) + 1e-6


def recipe(processor: Any) -> Pixels | None:
    """Return what a transformers image processor does, as far as its settings say; None if it does anything else.

    The settings do not say everything: confirm with `Pixels.agrees`.
    """
    size = getattr(processor, "size", None) or {}
    height, width = (_entry(size, name) for name in ("height", "width"))
    steps = [getattr(processor, f"do_{step}", None) for step in ("resize", "rescale", "normalize")]
    mode = MODES.get(int(getattr(processor, "resample", None) or -1))
    mean, std = getattr(processor, "image_mean", None), getattr(processor, "image_std", None)
    if not (all(steps) and height and width and mode and mean and std) or len(mean) != 3:
        return None
    if any(getattr(processor, f"do_{step}", None) for step in ("center_crop", "pad")):
        return None
    return Pixels(int(height), int(width), mode, tuple(mean), tuple(std))


def _entry(size: Any, name: str) -> Any:
    return size.get(name) if hasattr(size, "get") else getattr(size, name, None)
