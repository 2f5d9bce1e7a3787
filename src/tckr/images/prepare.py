"""From one raw image to the PNG that the private set keeps."""

import hashlib
import io
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from tckr.images.guard import decode
from tckr.images.options import IngestionOptions
from tckr.images.raw import RawImage
from tckr.images.tensors import encode


@dataclass(frozen=True)
class Prepared:
    """One image ready for the table.

    Attributes:
        raw: The image it came from, its content dropped.
        image_id: First 16 hex digits of SHA-256 over mode, size and pixels.
        mode: "L" or "RGB".
        png: Encoded pixels.
        original: Mode and size in the source, as in "RGB 640x480".
    """

    raw: RawImage
    image_id: str
    mode: str
    png: bytes
    original: str


@dataclass(frozen=True)
class Skipped:
    """An image that could not be used, and why."""

    name: str
    reason: str


def prepare(raw: RawImage, options: IngestionOptions) -> Prepared:
    """Decode, make square and encode one image.

    With `channels="auto"` an image whose channels are equal comes out grey, whatever its file says.

    Raises:
        BadImageError: The image cannot be used.
    """
    decoded, original = decode(raw.content, options.max_pixels, draft=2 * options.size)
    image = squared(decoded, options.size, options.fit)
    if options.channels == "auto":
        image = _grey_if_equal(image)
    else:
        image = image.convert("L" if options.channels == "grey" else "RGB")
    # The content may be a whole photograph: keep only what the report needs of it.
    return Prepared(
        replace(raw, content=None), image_id(image), image.mode, encode(image), original
    )


def as_colour(prepared: Prepared) -> Prepared:
    """Give a grey image three equal channels, for a set in which others are coloured."""
    if prepared.mode == "RGB":
        return prepared
    image = Image.open(io.BytesIO(prepared.png)).convert("RGB")
    return replace(prepared, image_id=image_id(image), mode="RGB", png=encode(image))


def squared(image: Image.Image, size: int, fit: Literal["resize", "pad", "crop"]) -> Image.Image:
    """Make an L or RGB image `size` x `size` pixels; see `IngestionOptions.fit`."""
    if image.size == (size, size):
        return image
    if fit == "resize":
        return image.resize((size, size), Image.Resampling.BICUBIC)
    if fit == "crop":
        return ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    longest = max(image.size)
    if longest > size:
        # Not ImageOps.contain: it rounds the short side of a very long image down to nothing.
        width, height = (max(1, round(edge * size / longest)) for edge in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    canvas = Image.new(image.mode, (size, size), _border_colour(image))
    canvas.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
    return canvas


def image_id(image: Image.Image) -> str:
    """Content id: equal pixels in equal mode and size have equal ids, whatever file they came from."""
    header = f"{image.mode} {image.width}x{image.height} ".encode()
    return hashlib.sha256(header + image.tobytes()).hexdigest()[:16]


def _border_colour(image: Image.Image) -> float | tuple[int, ...]:
    pixels = np.asarray(image)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    median = np.sort(border, axis=0)[len(border) // 2]
    return int(median) if image.mode == "L" else tuple(int(value) for value in median)


def _grey_if_equal(image: Image.Image) -> Image.Image:
    if image.mode == "L":
        return image
    pixels = np.asarray(image)
    equal = (pixels[:, :, 0] == pixels[:, :, 1]).all() and (
        pixels[:, :, 0] == pixels[:, :, 2]
    ).all()
    return image.getchannel(0) if equal else image
