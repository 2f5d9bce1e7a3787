"""Views of images that anybody can make again: K transformations, the same for all images, by number.

A teacher's soft label of each view is stored with an image, so that whoever has the set alone trains on more than one
label an image. The table of the transformations goes with the set.
"""

import random
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tckr.classifiers.augment import moved
from tckr.classifiers.features import logits_of_each
from tckr.classifiers.options import AugmentationOptions

SEED = 20_250_101  # public


class View(NamedTuple):
    """One transformation: mirror and move, contrast, brightness, clip to [0, 1].

    Pixel (y, x) is the image's (y + down, x + right), or (y + down, W - 1 - x + right) where it is mirrored, clamped to the
    image.

    Attributes:
        mirrored: left and right.
        down: pixels.
        right: pixels.
        contrast: factor of what differs from the mean of the image.
        offset: of the brightness, white is 1.
    """

    mirrored: bool = False
    down: int = 0
    right: int = 0
    contrast: float = 1.0
    offset: float = 0.0


def fixed_views(count: int, options: AugmentationOptions) -> tuple[View, ...]:
    """Return the first `count` views: the image itself, then views within the limits of the augmentation.

    Every second one is mirrored, where that is allowed. More views begin with the same ones. AugMix and MixUp are left out.

    Example:
        >>> fixed_views(2, AugmentationOptions(shift=0, contrast=0, offset=0))
        (View(mirrored=False, down=0, right=0, contrast=1.0, offset=0.0), View(mirrored=True, down=0, right=0, contrast=1.0, offset=0.0))
    """
    drawn = random.Random(SEED)  # its floats are the same in every version of Python

    def uniform(limit: float) -> float:
        return round((2 * drawn.random() - 1) * limit, 4)

    def whole(limit: int) -> int:
        return int((2 * limit + 1) * drawn.random()) - limit

    others = [
        View(
            options.flip and number % 2 == 1,
            whole(options.shift),
            whole(options.shift),
            round(1 + uniform(options.contrast), 4),
            uniform(options.offset),
        )
        for number in range(1, count)
    ]
    return (View(), *others)[:count]


def show(images: Tensor, index: Tensor, numbers: Tensor, table: Tensor) -> Tensor:
    """Return one view of each of the images at `index`.

    Args:
        images: uint8 (N, C, H, W).
        index: int64 (B,) into `images`, on its device, as all that follows.
        numbers: int64 (B,), which view of each.
        table: float32 (K, 5), of `view_table`.

    Returns:
        float32 (B, C, H, W) in [0, 1], channels last in memory.
    """
    mirrored, down, right, contrast, offset = table[numbers].split(1, 1)
    each = (-1, 1, 1, 1)
    return moved(
        images, index, down.long(), right.long(), mirrored > 0, contrast.view(each), offset.view(each)
    )  # fmt: skip


@lru_cache(maxsize=32)
def view_table(
    count: int, options: AugmentationOptions, device: str | torch.device = "cpu"
) -> Tensor:
    """Return `fixed_views` as float32 (count, 5) on the device."""
    return torch.tensor([list(map(float, view)) for view in fixed_views(count, options)]).to(device)


def labels_of_views(
    teacher: nn.Module,
    images: Tensor,
    count: int,
    options: AugmentationOptions,
    batch_size: int = 256,
) -> Tensor:
    """Return the teacher's class probabilities of `count` views of each image, float32 (N, count, n_classes) on the CPU.

    Args:
        teacher: is put into evaluation mode; it stays on its device.
        images: uint8 (N, C, H, W).
        count: views an image.
        options: limits of the views.
        batch_size: images at once.
    """
    return labels_of_views_each([teacher], images, count, options, batch_size)[0]


def labels_of_views_each(
    teachers: Sequence[nn.Module],
    images: Tensor,
    count: int,
    options: AugmentationOptions,
    batch_size: int = 256,
) -> list[Tensor]:
    """Return `labels_of_views` of teachers on one device, in one pass over the images, whose fixed features they share."""
    device = next(teachers[0].parameters()).device
    table = view_table(count, options, device)
    for teacher in teachers:
        teacher.eval()
    parts: list[list[Tensor]] = [[] for _ in teachers]
    with torch.inference_mode():
        for few in images.split(batch_size):
            pixels, index = few.to(device), torch.arange(len(few), device=device)
            said = [
                logits_of_each(teachers, show(pixels, index, torch.full_like(index, number), table))
                for number in range(count)
            ]
            for own, each in zip(parts, zip(*said, strict=True), strict=True):
                own.append(torch.stack([z.float() for z in each], 1).softmax(2))
    return [torch.cat(own).cpu() for own in parts]
