"""Describe a small picture as someone would who does not know what it shows.

The captioner miniature is trained to write these sentences, and the generator miniature to draw from them: size,
proportions, colour, outline, parts, surface, balance, background. They are computed from the pixels of *public* images;
private images are described by the trained captioner only.
"""

import torch
from torch import Tensor

HUES = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
HUE_EDGES = (20, 45, 70, 165, 200, 260, 300, 340)
GREYS = ("black", "dark grey", "grey", "light grey", "white")


def describe(images: Tensor, batch_size: int = 4096) -> list[str]:
    """Return one sentence per image.

    Args:
        images: uint8 (N, 3, H, W).
        batch_size: images per step; bounds the memory.

    >>> disc = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    >>> disc[:, 0, 8:24, 8:24] = 255
    >>> describe(disc)[0].split(",")[0]
    'medium square red full shape'
    """
    return [sentence for part in images.split(batch_size) for sentence in _describe(part)]


def _describe(images: Tensor) -> list[str]:
    pixels = images.float() / 255
    ring = torch.cat([pixels[..., 0, :], pixels[..., -1, :], pixels[..., 0], pixels[..., -1]], 2)
    ground = ring.median(2).values
    busy = (ring - ground[..., None]).abs().amax(1).mean(1)
    mask = (pixels - ground[..., None, None]).abs().amax(1) > (0.09 + 0.5 * busy)[:, None, None]
    words = [
        _size(mask),
        _proportions(mask),
        _colour(pixels, mask),
        _filling(mask),
        _profile(mask),
        _parts(mask),
        _surface(pixels, mask),
        _balance(mask),
    ]
    backgrounds = zip(
        _band(busy, (0.06, 0.2), ("plain", "soft", "busy")), _name(ground), strict=True
    )
    return [
        f"{size} {proportions} {colour} {filling} shape, {profile}, {parts}, {surface}, {balance}, "
        f"on {texture} {background} background"
        for size, proportions, colour, filling, profile, parts, surface, balance, (
            texture,
            background,
        ) in zip(*words, backgrounds, strict=True)
    ]


def _band(values: Tensor, edges: tuple[float, ...], names: tuple[str, ...]) -> list[str]:
    return [names[i] for i in torch.bucketize(values.contiguous(), torch.tensor(edges)).tolist()]


def _name(colour: Tensor) -> list[str]:
    """Return the names of RGB colours (N, 3) in [0, 1]."""
    value, chroma = colour.amax(1), colour.amax(1) - colour.amin(1)
    red, green, blue = colour.unbind(1)
    safe = chroma.clamp(min=1e-6)
    sector = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    hue = _band((60 * sector) % 360, HUE_EDGES, (*HUES, "red"))
    grey = _band(colour.mean(1), (0.12, 0.38, 0.62, 0.86), GREYS)
    brown = ((value < 0.65) & (chroma > 0.1)).tolist()
    return [
        g if c < 0.12 else ("brown" if h in ("orange", "yellow") and dim else h)
        for g, h, c, dim in zip(grey, hue, chroma.tolist(), brown, strict=True)
    ]


def _box(mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the first and last occupied row and column of each mask (N, H, W)."""
    rows, columns = mask.any(2).float(), mask.any(1).float()
    side = mask.shape[1] - 1
    top, left = rows.argmax(1), columns.argmax(1)
    return top, side - rows.flip(1).argmax(1), left, side - columns.flip(1).argmax(1)


def _size(mask: Tensor) -> list[str]:
    names = ("tiny", "small", "medium", "large", "huge")
    return _band(mask.float().mean((1, 2)), (0.1, 0.22, 0.38, 0.58), names)


def _proportions(mask: Tensor) -> list[str]:
    top, bottom, left, right = _box(mask)
    ratio = torch.log2((bottom - top + 1) / (right - left + 1))
    names = ("very wide", "wide", "square", "tall", "very tall")
    return _band(ratio, (-1.0, -0.3, 0.3, 1.0), names)


def _colour(pixels: Tensor, mask: Tensor) -> list[str]:
    weight = mask.float()[:, None]
    return _name((pixels * weight).sum((2, 3)) / weight.sum((2, 3)).clamp(min=1))


def _filling(mask: Tensor) -> list[str]:
    top, bottom, left, right = _box(mask)
    area = (bottom - top + 1) * (right - left + 1)
    share = mask.sum((1, 2)) / area
    return _band(share, (0.35, 0.55, 0.72, 0.88), ("thin", "open", "loose", "solid", "full"))


def _bands(mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean occupied width (pixels) of the top, middle and bottom third of each mask's bounding box."""
    top, bottom, _, _ = _box(mask)
    row = torch.arange(mask.shape[1])[None]
    place = (row - top[:, None] + 0.5) / (bottom - top + 1)[:, None]
    width = mask.sum(2).float()

    def mean(low: float, high: float) -> Tensor:
        inside = ((place >= low) & (place < high)).float()
        return (width * inside).sum(1) / inside.sum(1).clamp(min=1)

    return mean(0, 1 / 3), mean(1 / 3, 2 / 3), mean(2 / 3, 1)


def _profile(mask: Tensor) -> list[str]:
    upper, middle, lower = _bands(mask)
    widest = torch.stack([upper, middle, lower]).amax(0).clamp(min=1)
    lean = (lower - upper) / widest
    belly = (middle - (upper + lower) / 2) / widest
    slope = _band(
        lean, (-0.35, -0.12, 0.12, 0.35), ("wedge", "narrowing", "straight", "widening", "cone")
    )
    waist = _band(
        belly, (-0.15, -0.04, 0.1, 0.25), ("pinched", "hollow", "even", "round", "bulging")
    )
    return [f"{s} {w} outline" for s, w in zip(slope, waist, strict=True)]


def _parts(mask: Tensor) -> list[str]:
    """Name the number of pieces that a typical row crosses near the top and near the bottom."""
    top, bottom, _, _ = _box(mask)
    padded = torch.nn.functional.pad(mask, (1, 0))
    runs = (padded[..., 1:] & ~padded[..., :-1]).sum(2).float()
    place = (torch.arange(mask.shape[1])[None] - top[:, None] + 0.5) / (bottom - top + 1)[:, None]

    def mean(low: float, high: float) -> Tensor:
        inside = ((place >= low) & (place < high)).float()
        return (runs * inside).sum(1) / inside.sum(1).clamp(min=1)

    names = ("whole", "notched", "split", "manifold")
    above, below = (_band(mean(*third), (1.2, 1.7, 2.5), names) for third in ((0, 0.4), (0.6, 1)))
    return [f"{a} top {b} bottom" for a, b in zip(above, below, strict=True)]


def _surface(pixels: Tensor, mask: Tensor) -> list[str]:
    grey = pixels.mean(1)
    inside = mask.float()
    count = inside.sum((1, 2)).clamp(min=1)
    both_x, both_y = inside[..., 1:] * inside[..., :-1], inside[:, 1:] * inside[:, :-1]
    across = ((grey[..., 1:] - grey[..., :-1]).abs() * both_x).sum((1, 2)) / both_x.sum(
        (1, 2)
    ).clamp(min=1)
    along = ((grey[:, 1:] - grey[:, :-1]).abs() * both_y).sum((1, 2)) / both_y.sum((1, 2)).clamp(
        min=1
    )
    mean = (grey * inside).sum((1, 2)) / count
    spread = (((grey - mean[:, None, None]) ** 2 * inside).sum((1, 2)) / count).sqrt()
    texture = _band(
        (across + along) / 2, (0.03, 0.07, 0.12), ("smooth", "grained", "textured", "rough")
    )
    contrast = _band(spread, (0.05, 0.12, 0.2), ("flat", "shaded", "patterned", "contrasted"))
    names = ("banded across", "", "striped down")
    stripes = _band(torch.log2((across + 0.005) / (along + 0.005)), (-0.7, 0.7), names)
    return [f"{c} {t} {s}".strip() for c, t, s in zip(contrast, texture, stripes, strict=True)]


def _balance(mask: Tensor) -> list[str]:
    weight = mask.float()
    total = weight.sum((1, 2)).clamp(min=1)
    top, bottom, left, right = _box(mask)
    index = torch.arange(mask.shape[1]).float()
    x = ((weight.sum(1) * index).sum(1) / total - left) / (right - left).clamp(min=1)
    y = ((weight.sum(2) * index).sum(1) / total - top) / (bottom - top).clamp(min=1)
    mirror = (weight * weight.flip(2)).sum((1, 2)) / total
    side = _band(x, (0.45, 0.55), ("heavier left", "centred", "heavier right"))
    height = _band(y, (0.45, 0.55), ("top heavy", "level", "bottom heavy"))
    symmetry = _band(mirror, (0.7, 0.88), ("lopsided", "uneven", "symmetric"))
    return [f"{s} {v} {h}" for s, v, h in zip(symmetry, height, side, strict=True)]
