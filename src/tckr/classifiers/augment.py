"""Random training views of images, computed for a whole batch at once."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from tckr.classifiers.options import AugmentationOptions


def pad(images: Tensor, options: AugmentationOptions) -> Tensor:
    """Pad uint8 (N, C, H, W) images by their edge pixels, wide enough for every shift; `views` needs no such copy.

    Example:
        >>> pad(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), AugmentationOptions(shift=2)).shape
        torch.Size([1, 1, 12, 12])
    """
    margin = options.shift
    if margin == 0:
        return images
    # Replicating by index keeps uint8: torch pads integers by a constant only.
    rows = torch.arange(-margin, images.shape[2] + margin).clamp(0, images.shape[2] - 1)
    columns = torch.arange(-margin, images.shape[3] + margin).clamp(0, images.shape[3] - 1)
    return images[:, :, rows.to(images.device)][..., columns.to(images.device)]


def views(
    images: Tensor, index: Tensor, options: AugmentationOptions, generator: torch.Generator
) -> Tensor:
    """Return one random view of each of the images at `index`.

    A shift moves the image in its frame; its edge pixels fill what it leaves. No image but those at `index` is read.

    Args:
        images: uint8 (N, C, H, W).
        index: int64 (B,) into `images`, on its device.
        generator: on the device of `images`.

    Returns:
        float32 (B, C, H, W) in [0, 1], channels last in memory.
    """
    device, n = images.device, len(index)

    def whole(low: int, high: int) -> Tensor:
        return torch.randint(low, high + 1, (n, 1), generator=generator, device=device)

    def uniform(limit: float) -> Tensor:
        unit = torch.rand((n, 1, 1, 1), generator=generator, device=device)
        return (2 * unit - 1) * limit

    down = whole(0, 2 * options.shift) - options.shift
    mirrored = whole(0, 1).bool() if options.flip else None
    right = whole(0, 2 * options.shift) - options.shift
    contrast, offset = None, None
    if options.contrast or options.offset:
        contrast, offset = 1 + uniform(options.contrast), uniform(options.offset)
    batch = moved(images, index, down, right, mirrored, contrast, offset)
    return aug_mix(batch, generator) if options.augmix else batch


def moved(
    images: Tensor,
    index: Tensor,
    down: Tensor,
    right: Tensor,
    mirrored: Tensor | None,
    contrast: Tensor | None,
    offset: Tensor | None,
) -> Tensor:
    """Return the images at `index`, mirrored, then moved in their frames, then in contrast and brightness.

    Args:
        images: uint8 (N, C, H, W).
        index: int64 (B,) into `images`, on its device, as all that follows.
        down: int64 (B, 1), pixels; the image's edge pixels fill what it leaves.
        right: int64 (B, 1), pixels.
        mirrored: bool (B, 1); None mirrors none.
        contrast: float (B, 1, 1, 1), factor of what differs from the image's mean; None leaves contrast and brightness.
        offset: float (B, 1, 1, 1), added; white is 1.

    Returns:
        float32 (B, C, H, W) in [0, 1], channels last in memory.
    """
    height, width = images.shape[2:]
    rows = torch.arange(height, device=images.device) + down
    columns = torch.arange(width, device=images.device).expand(len(index), width)
    if mirrored is not None:
        columns = torch.where(mirrored, columns.flip(1), columns)
    columns = columns + right
    # Beyond an edge lies the edge's own pixel.
    rows, columns = rows.clamp_(0, height - 1), columns.clamp_(0, width - 1)
    # Indexing puts the channel last: the layout in which convolutions are fast.
    picked = images[index[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    batch = picked.float().div_(255)
    if contrast is not None and offset is not None:
        mean = batch.mean((1, 2, 3), keepdim=True)
        batch = (batch - mean) * contrast + mean
        batch = (batch + offset).clamp_(0, 1)
    return batch.permute(0, 3, 1, 2)


# AugMix as published: number of chains, longest chain, and the largest strength (of 10) that is drawn.
WIDTH, DEPTH, SEVERITY = 3, 3, 3.0
AUTOCONTRAST, EQUALIZE, POSTERIZE, SOLARIZE = range(4)
ROTATE, SHEAR_X, SHEAR_Y, MOVE_X, MOVE_Y = range(4, 9)
OPERATIONS = 9


def aug_mix(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mix each image with chains of random operations on it (Hendrycks et al. 2020, arXiv 1912.02781, algorithm 1).

    x' = (1 - m) x + m sum_i w_i chain_i(x), w from Dirichlet(1, 1, 1), m from Beta(1, 1), that is uniform; a chain
    is one to three of autocontrast, equalize, posterize, solarize, rotation, shears and shifts. The consistency loss of
    the paper is not included.

    Args:
        images: float (B, C, H, W) in [0, 1].
        generator: on the device of `images`.

    Returns:
        The same shape, in [0, 1].
    """
    size, device = len(images), images.device

    def unit(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=device)

    weights = -torch.log1p(-unit(WIDTH, size))  # exponential: their shares are Dirichlet(1, 1, 1)
    weights = weights / weights.sum(0)
    mixed = torch.zeros_like(images)
    for weight in weights:
        chain = images
        depth = (unit(size) * DEPTH).long()
        for step in range(DEPTH):
            operation = (unit(size) * OPERATIONS).long()
            level = 0.1 + (SEVERITY - 0.1) * unit(size)
            sign = torch.where(unit(size) < 0.5, -1.0, 1.0)
            changed = operate(chain, operation, level, sign)
            chain = torch.where(_each(step <= depth), changed, chain)
        mixed = mixed + _each(weight) * chain
    share = _each(unit(size))
    return ((1 - share) * images + share * mixed).clamp(0, 1)


def mix_up(
    images: Tensor, targets: Tensor, alpha: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Mix each image and its target with the next one's, in one proportion for the batch (MixUp, arXiv 1710.09412).

    Args:
        images: float (B, C, H, W), in random order.
        targets: float (B, n_classes).
        alpha: the proportion is drawn from Beta(alpha, alpha); above 0.
        generator: on the device of `images`.

    Returns:
        The mixed images and targets, of the same shapes.
    """
    shape = torch.full((2,), alpha, device=images.device)
    pair = torch._standard_gamma(shape, generator=generator)
    share = pair[0] / pair.sum().clamp_min(torch.finfo(pair.dtype).tiny)
    return (
        share * images + (1 - share) * images.roll(1, 0),
        share * targets + (1 - share) * targets.roll(1, 0),
    )


def operate(images: Tensor, operation: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Apply one operation to each image, with the strengths of the published code (google-research/augmix).

    Args:
        images: float (B, C, H, W) in [0, 1].
        operation: int64 (B,), one of the constants of this module.
        level: float (B,), strength, 0..10.
        sign: float (B,), -1 or 1, of rotation, shear and shift.
    """
    bits = 4 - (level * 0.4).floor()
    coarse = 2 ** (8 - bits)
    pixels = (images * 255).round()
    results = {
        AUTOCONTRAST: _autocontrast(images),
        EQUALIZE: _equalize(pixels),
        POSTERIZE: torch.floor(pixels / _each(coarse)) * _each(coarse) / 255,
        SOLARIZE: torch.where(pixels < _each(256 - (level * 25.6).floor()), images, 1 - images),
    }
    chosen = _warp(images, operation, level, sign)
    for number, result in results.items():
        chosen = torch.where(_each(operation == number), result, chosen)
    return chosen


def _each(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


def _autocontrast(images: Tensor) -> Tensor:
    """Stretch every channel to [0, 1]; a constant one is left as it is."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    return torch.where(high > low, (images - low) / (high - low).clamp_min(1e-6), images)


def _equalize(pixels: Tensor) -> Tensor:
    """Equalize the histogram of every channel, as Pillow does it.

    Args:
        pixels: float (B, C, H, W), whole numbers in 0..255.

    Returns:
        float in [0, 1].
    """
    rows = pixels.flatten(0, 1).flatten(1).long()
    counts = torch.zeros(len(rows), 256, dtype=torch.int64, device=rows.device)
    counts.scatter_add_(1, rows, torch.ones_like(rows))
    last = counts.gather(1, rows.amax(1, keepdim=True))
    step = (rows.shape[1] - last) // 255
    below = counts.cumsum(1) - counts
    table = ((below + step // 2) // step.clamp_min(1)).clamp(max=255)
    equalized = torch.where(step > 0, table.gather(1, rows), rows)
    return equalized.view_as(pixels).to(pixels.dtype) / 255


def _warp(images: Tensor, operation: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Rotate by up to 30 degrees, shear by up to 0.3, shift by up to a third, at level 10; black moves in."""

    def strength(number: int, largest: float) -> Tensor:
        return torch.where(operation == number, sign * level * largest / 10, 0.0)

    height, width = images.shape[-2:]
    angle = strength(ROTATE, math.pi / 6)
    one = torch.ones_like(angle)
    # In units of half a side; where the axes differ in length, a turn in pixels is not one in these units.
    theta = torch.stack(
        [
            angle.cos() * one,
            -angle.sin() * height / width + strength(SHEAR_X, 0.3) * height / width,
            strength(MOVE_X, 2 / 3),
            angle.sin() * width / height + strength(SHEAR_Y, 0.3) * width / height,
            angle.cos() * one,
            strength(MOVE_Y, 2 / 3),
        ],
        1,
    ).view(-1, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid.to(images.dtype), align_corners=False)
