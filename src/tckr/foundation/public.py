"""Collect the public images that the foundation models are trained on: photographs of animals, clip art and emoji.

There is no private image, no Fashion-MNIST and no vehicle among them. Photographs: the six animal classes of CIFAR-10.
Drawings: the Open Clip Art Library (public domain), Noto emoji (Apache-2.0) and Twitter emoji (CC-BY 4.0), without flags
and vehicles.
"""

import io
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from tckr.errors import UserError
from tckr.options import Options

MAX_PIXELS = 8_000_000
DRAWING_SIZE = 40
LEFT_OUT = {"Flags", "transportation", "Component"}


class PublicMixOptions(Options):
    """Which views of each public image the foundation models are trained on."""

    size: int = Field(32, ge=16, le=512, description="side of the square training images, pixels")
    photo_views: tuple[Literal["colour", "grey"], ...] = ("colour", "grey")
    drawing_views: tuple[
        Literal["white", "black", "colour", "grey_on_black", "grey_on_white"], ...
    ] = (
        *("white",) * 2,
        "black",
        "colour",
        *("grey_on_black",) * 8,
        "grey_on_white",
    )
    mirror: bool = Field(
        True, description="mirror half of the images; off where sides carry meaning"
    )


def collect(photos: Path, clip_art: Path, emoji: Path) -> pd.DataFrame:
    """Gather the public images into one table: source, name, category, image (uint8 array, HWC; drawings RGBA).

    Args:
        photos: Parquet with columns split, label, image (encoded bytes).
        clip_art: folder of categories of PNG files (`openclipart/png`).
        emoji: folder with `emoji.json` and `img/<style>/64` for each style.

    Raises:
        UserError: a source is missing.
    """
    for path in (photos, clip_art, emoji):
        if not path.exists():
            raise UserError(
                f"Public source {path} is missing.", "run scripts/fetch_public_images.sh."
            )
    return as_table([*read_photographs(photos), *read_clip_art(clip_art), *read_emoji(emoji)])


Row = tuple[str, str, str, np.ndarray]
"""Source, name, category and pixels of one public image."""


def as_table(rows: Sequence[Row]) -> pd.DataFrame:
    """Return public images as `collect` does, drawings that occur twice once."""
    table = pd.DataFrame(rows, columns=["source", "name", "category", "image"])
    drawn = table.source != "photo"
    duplicated = table[drawn].image.map(lambda image: image.tobytes()).duplicated()
    return table.drop(index=duplicated[duplicated].index).reset_index(drop=True)


def read_photographs(path: Path) -> Iterator[Row]:
    """Yield the photographs of a Parquet file with columns split, label, image, those of its training split."""
    for row in pd.read_parquet(path).itertuples():
        if row.split == "train":
            photo = np.asarray(Image.open(io.BytesIO(row.image)).convert("RGB"))
            yield "photo", row.label, row.label, photo


def read_clip_art(folder: Path) -> Iterator[Row]:
    """Yield the drawings of the Open Clip Art Library without vehicles; the category is the folder just below the root."""
    for path in sorted(folder.rglob("*.png")):
        if path.is_symlink() or LEFT_OUT & set(path.parts):
            continue
        drawing = _drawing(path)
        if drawing is not None:
            words = re.sub(r"[^a-z]+", " ", path.stem.lower()).split()
            name = " ".join(word for word in words if len(word) > 2)[:40].strip()
            category = path.relative_to(folder).parts[0].replace("_", " ")
            yield "clip_art", name or path.parent.name, category, drawing


def read_emoji(folder: Path) -> Iterator[Row]:
    """Yield emoji without flags and vehicles, style by style; the category is emoji.json's subcategory."""
    entries = [
        entry
        for entry in json.loads((folder / "emoji.json").read_text())
        if entry["category"] not in LEFT_OUT and not entry["subcategory"].startswith("transport")
    ]
    for style in sorted((folder / "img").iterdir()):
        for entry in entries:
            path = style / "64" / entry["image"]
            drawing = _drawing(path) if path.exists() else None
            if drawing is not None:
                name = re.sub(r"[^a-z]+", " ", entry["name"].lower()).strip()
                yield "emoji", name, entry["subcategory"].replace("-", " "), drawing


def _drawing(path: Path) -> np.ndarray | None:
    """Return the drawing of a file, `centred`."""
    try:
        with Image.open(path) as file:
            if file.width * file.height > MAX_PIXELS:
                return None
            image = file.convert("RGBA")
    except (OSError, Image.DecompressionBombError):
        return None
    return centred(image)


def centred(image: Image.Image) -> np.ndarray | None:
    """Crop an RGBA drawing to its visible box and centre it on a square of DRAWING_SIZE; None if little is visible."""
    box = image.getchannel("A").point(lambda a: 255 if a > 16 else 0).getbbox()
    if box is None:
        return None
    image = image.crop(box)
    scale = DRAWING_SIZE / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    if min(width, height) < 4:
        return None
    canvas = Image.new("RGBA", (DRAWING_SIZE, DRAWING_SIZE))
    canvas.paste(
        image.resize((width, height), Image.Resampling.LANCZOS),
        ((DRAWING_SIZE - width) // 2, (DRAWING_SIZE - height) // 2),
    )
    pixels = np.asarray(canvas)
    return pixels if pixels[..., 3].mean() > 12 else None


def compose(public: pd.DataFrame, options: PublicMixOptions, seed: int) -> tuple[Tensor, list[str]]:
    """Return every training view of the public images.

    A drawing is stretched, mirrored, rotated by up to 0.15 rad, shifted, and placed on a background; half of the
    photographs are mirrored. Grey views have a random range of grey values, as catalogue pictures have.

    Returns:
        The images, uint8 (N, 3, size, size), and the N names.
    """
    draw = torch.Generator().manual_seed(seed)
    photos = public[public.source == "photo"]
    drawings = public[public.source != "photo"]
    pixels, names = [], []
    if len(photos):
        base = torch.from_numpy(np.stack(list(photos.image))).permute(0, 3, 1, 2).float() / 255
        base = functional.interpolate(base, size=options.size, mode="bilinear", antialias=True)
        for view in options.photo_views:
            mirrored = torch.rand(len(base), 1, 1, 1, generator=draw) < 0.5 * options.mirror
            image = torch.where(mirrored, base.flip(3), base)
            pixels.append(_to_bytes(_grey(image) if view == "grey" else image))
            names += list(photos.name)
    if len(drawings):
        base = torch.from_numpy(np.stack(list(drawings.image))).permute(0, 3, 1, 2).float() / 255
        for background in options.drawing_views:
            pixels.append(_to_bytes(_lay(base, background, options, draw)))
            names += list(drawings.name)
    return torch.cat(pixels), names


def _lay(drawings: Tensor, view: str, options: PublicMixOptions, draw: torch.Generator) -> Tensor:
    """Place drawings (N, 4, H, W) in [0, 1] at random on the background that `view` names."""
    size, mirrored = options.size, 0.5 * options.mirror

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(len(drawings), generator=draw) * (high - low) + low

    angle, mirror = uniform(-0.15, 0.15), torch.where(uniform(0, 1) < mirrored, -1.0, 1.0)
    common = uniform(0.75, 1.05)  # fraction of the frame that the drawing fills
    wide, tall = common * uniform(0.6, 1.0), common * uniform(0.8, 1.05)
    shift_x, shift_y = uniform(-0.08, 0.08), uniform(-0.08, 0.08)
    rows = torch.stack(
        [
            torch.stack([angle.cos() * mirror / wide, -angle.sin() / wide, shift_x], 1),
            torch.stack([angle.sin() * mirror / tall, angle.cos() / tall, shift_y], 1),
        ],
        1,
    )
    premultiplied = torch.cat([drawings[:, :3] * drawings[:, 3:], drawings[:, 3:]], 1)
    supersampled = functional.affine_grid(
        rows, [len(drawings), 4, size * 2, size * 2], align_corners=False
    )
    placed = functional.avg_pool2d(
        functional.grid_sample(premultiplied, supersampled, align_corners=False), 2
    )
    colour, alpha = placed[:, :3], placed[:, 3:]
    if view.startswith("grey"):
        colour = _grey(colour / alpha.clamp(min=1e-3)) * alpha
        if view == "grey_on_black":  # a drawing in dark ink is inverted so that it is visible
            level = (colour.sum((1, 2, 3)) / (3 * alpha.sum((1, 2, 3)).clamp(min=1e-3)))[
                :, None, None, None
            ]
            colour = torch.where(level < 0.35, alpha - colour, colour)
            gain, lift = (
                uniform(0.55, 1.0)[:, None, None, None],
                uniform(0.0, 0.3)[:, None, None, None],
            )
            colour = (colour * gain + alpha * lift).clamp(0, 1)
    background = {
        "white": torch.ones(len(drawings), 3, 1, 1),
        "black": torch.zeros(len(drawings), 3, 1, 1),
        "colour": torch.rand(len(drawings), 3, 1, 1, generator=draw),
        "grey_on_black": torch.zeros(len(drawings), 3, 1, 1),
        "grey_on_white": torch.ones(len(drawings), 3, 1, 1),
    }[view]
    return colour + background * (1 - alpha)


def _grey(images: Tensor) -> Tensor:
    weights = torch.tensor([0.299, 0.587, 0.114])[None, :, None, None]
    return (images * weights).sum(1, keepdim=True).expand(-1, 3, -1, -1)


def _to_bytes(images: Tensor) -> Tensor:
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)
