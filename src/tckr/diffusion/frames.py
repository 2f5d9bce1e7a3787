"""Between the private images' own size and colours and the generator's square RGB frame."""

import torch
from torch import Tensor
from torch.nn import functional

NEARLY = 0.75  # an image this large a share of the frame is padded, which loses nothing; others are resized


def to_frame(images: Tensor, side: int) -> Tensor:
    """Fit images into the generator's frame: those nearly of its size are padded, others cropped to a square and resized.

    Args:
        images: uint8 (N, C, H, W), C 1 or 3.
        side: the generator's image side, pixels.

    Returns:
        uint8 (N, 3, side, side).
    """
    images = images.expand(-1, 3, -1, -1)
    height, width = images.shape[2:]
    if (height, width) == (side, side):
        return images.contiguous()
    if _is_padded(height, width, side):
        top, left = (side - height) // 2, (side - width) // 2
        edges = (left, side - width - left, top, side - height - top)
        return functional.pad(images.float(), edges, mode="replicate").to(torch.uint8)
    # The middle square, as the published resize and centre crop have it.
    square = min(height, width)
    top, left = (height - square) // 2, (width - square) // 2
    middle = images[..., top : top + square, left : left + square]
    return middle.contiguous() if square == side else _resize(middle, (side, side))


def from_frame(images: Tensor, height: int, width: int, channels: int) -> Tensor:
    """Undo `to_frame`, but for what it cropped; grey is the mean of the three channels.

    Args:
        images: uint8 (N, 3, side, side).

    Returns:
        uint8 (N, channels, height, width).
    """
    side = images.shape[2]
    if channels == 1:
        images = images.float().mean(1, keepdim=True).round().to(torch.uint8)
    if (height, width) == (side, side):
        return images
    if _is_padded(height, width, side):
        top, left = (side - height) // 2, (side - width) // 2
        return images[..., top : top + height, left : left + width].contiguous()
    return _resize(images, (height, width))


def _is_padded(height: int, width: int, side: int) -> bool:
    return max(height, width) <= side and min(height, width) >= NEARLY * side


def _resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    resized = functional.interpolate(images.float(), size=size, mode="bilinear", antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8)


def to_bytes(images: Tensor) -> Tensor:
    """Float in [-1, 1] to uint8."""
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
