"""Between the private images' own size and colours and the generator's square RGB frame."""

import torch
from torch import Tensor
from torch.nn import functional

NEARLY = 0.75  # an image this large a share of the frame is padded, which loses nothing; others are resized


def to_frame(images: Tensor, side: int) -> Tensor:
    """Fit images into the generator's frame: pad those of nearly its size, crop others to a square and resize them.

    Args:
        images: uint8 (N, C, H, W), C 1 or 3.
        side: the generator's image side, pixels.

    Returns:
        uint8 (N, 3, side, side).

    >>> to_frame(torch.zeros(2, 1, 28, 28, dtype=torch.uint8), 32).shape
    torch.Size([2, 3, 32, 32])
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
    """Convert images from float in [-1, 1] to uint8.

    >>> to_bytes(torch.tensor([-1.0, 0.0, 1.0])).tolist()
    [0, 128, 255]
    """
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
