"""Random training views, computed for a whole batch at once."""

import torch
from torch import Tensor

from tckr.classifiers.mixing import aug_mix
from tckr.classifiers.options import AugmentationOptions


def pad(images: Tensor, options: AugmentationOptions) -> Tensor:
    """Frame uint8 (N, C, H, W) images by their edge pixels, wide enough for every shift."""
    margin = options.shift
    if margin == 0:
        return images
    # Replicating by index keeps uint8: torch pads integers by a constant only.
    rows = torch.arange(-margin, images.shape[2] + margin).clamp(0, images.shape[2] - 1)
    columns = torch.arange(-margin, images.shape[3] + margin).clamp(0, images.shape[3] - 1)
    return images[:, :, rows.to(images.device)][..., columns.to(images.device)]


def views(
    padded: Tensor, index: Tensor, options: AugmentationOptions, generator: torch.Generator
) -> Tensor:
    """One random view each of the images at `index`.

    Args:
        padded: uint8 (N, C, H + 2 shift, W + 2 shift), the output of `pad`.
        index: int64 (B,) into `padded`, on its device.
        generator: on the device of `padded`.

    Returns:
        float32 (B, C, H, W) in [0, 1], channels last in memory.
    """
    device, n = padded.device, len(index)
    height, width = padded.shape[2] - 2 * options.shift, padded.shape[3] - 2 * options.shift

    def whole(low: int, high: int) -> Tensor:
        return torch.randint(low, high + 1, (n, 1), generator=generator, device=device)

    def uniform(limit: float) -> Tensor:
        unit = torch.rand((n, 1, 1, 1), generator=generator, device=device)
        return (2 * unit - 1) * limit

    rows = whole(0, 2 * options.shift) + torch.arange(height, device=device)
    columns = torch.arange(width, device=device).expand(n, width)
    if options.flip:
        columns = torch.where(whole(0, 1).bool(), columns.flip(1), columns)
    columns = columns + whole(0, 2 * options.shift)
    # Indexing puts the channel last: the layout in which convolutions are fast.
    picked = padded[index[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    images = picked.float().div_(255)
    if options.contrast or options.offset:
        mean = images.mean((1, 2, 3), keepdim=True)
        images = (images - mean) * (1 + uniform(options.contrast)) + mean
        images = (images + uniform(options.offset)).clamp_(0, 1)
    images = images.permute(0, 3, 1, 2)
    return aug_mix(images, generator) if options.augmix else images
