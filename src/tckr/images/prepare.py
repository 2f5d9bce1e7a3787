"""Turn one raw image into the PNG of the private set: decode it without trusting it, make it square, encode it."""

import hashlib
import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from tckr.images.options import IngestionOptions
from tckr.images.raw import RawImage
from tckr.images.tensors import encode

# Only decoders that neither start other programs (EPS would call Ghostscript) nor read other files.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000")
BYTES_PER_PIXEL = 8


@dataclass(frozen=True, slots=True)
class Prepared:
    """One image, ready for the table.

    Attributes:
        raw: The image it came from, without its content.
        image_id: First 16 hex digits of SHA-256 over mode, size and pixels.
        mode: "L" or "RGB".
        png: Encoded pixels; empty once they are in a file.
        original: Mode and size in the source, as in "RGB 640x480".
        row: Of its pixels in that file.
    """

    raw: RawImage
    image_id: str
    mode: str
    png: bytes
    original: str
    row: int = -1


@dataclass(frozen=True)
class Skipped:
    """An image that could not be used, and the reason."""

    name: str
    reason: str


class BadImageError(Exception):
    """This image cannot be used; the message says why in a few words."""


def prepare(raw: RawImage, options: IngestionOptions) -> Prepared:
    """Decode, make square and encode one image.

    With `channels="auto"`, an image whose channels are equal becomes grey, whatever its file says.

    Raises:
        BadImageError: The image cannot be used.

    >>> white = RawImage("white", np.full((20, 30), 255, np.uint8), label="paper")
    >>> prepared = prepare(white, IngestionOptions(size=32))
    >>> prepared.mode, prepared.original
    ('L', 'L 30x20')
    """
    decoded, original = decode(raw.content, options.max_pixels, draft=2 * options.size)
    image = squared(decoded, options.size, options.fit)
    if options.channels == "auto":
        image = _grey_if_equal(image)
    else:
        image = image.convert("L" if options.channels == "grey" else "RGB")
    # The content may be a whole photograph: keep only what the report needs.
    return Prepared(
        replace(raw, content=None), image_id(image), image.mode, encode(image), original
    )


def decode(
    content: Path | bytes | np.ndarray | None, max_pixels: int, draft: int
) -> tuple[Image.Image, str]:
    """Decode one untrusted image to 8 bits, upright, grey (L) or colour (RGB), transparency on white.

    Args:
        content: A file, encoded bytes, or pixels ((H, W), (H, W, C) or (C, H, W); integers 0..255 or floats 0..1).
        max_pixels: Width x height above which an image is refused by its header.
        draft: Edge in pixels that the caller needs; a much larger JPEG is decoded at a fraction of its size.

    Returns:
        The image, and its mode and size in the source as in "RGB 640x480".

    Raises:
        BadImageError: The image is missing, truncated, too large, or of no known format.
    """
    if content is None:
        raise BadImageError("no image")
    if isinstance(content, np.ndarray):
        image = from_array(content, max_pixels)
        return image, f"{image.mode} {image.width}x{image.height}"
    encoded = _read(content, max_pixels * BYTES_PER_PIXEL) if isinstance(content, Path) else content
    if not encoded:
        raise BadImageError("empty file")
    try:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise BadImageError(_too_large(f"{image.width} x {image.height}", max_pixels))
            original = f"{image.mode} {image.width}x{image.height}"
            image.draft(None, (draft, draft))
            return _eight_bits(ImageOps.exif_transpose(image)), original
    except BadImageError:
        raise
    except Image.DecompressionBombError as error:
        raise BadImageError(_too_large(str(error).split(",")[0], max_pixels)) from error
    except Image.UnidentifiedImageError as error:
        raise BadImageError("not an image of a known format") from error
    except Exception as error:  # Pillow's plugins raise nearly every type on a damaged file
        raise BadImageError(f"damaged or truncated ({error})") from error


def from_array(pixels: np.ndarray, max_pixels: int) -> Image.Image:
    """Return an 8-bit image of pixels; see `decode` for shapes and ranges."""
    if pixels.ndim == 3 and pixels.shape[0] in (1, 3) and pixels.shape[2] not in (1, 3, 4):
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    colour = pixels.ndim == 3 and pixels.shape[2] in (3, 4)
    if pixels.size == 0 or not (pixels.ndim == 2 or colour) or pixels.dtype.kind not in "buif":
        raise BadImageError(f"array of shape {pixels.shape} and type {pixels.dtype} is no image")
    if pixels.shape[0] * pixels.shape[1] > max_pixels:
        raise BadImageError(_too_large(f"{pixels.shape[1]} x {pixels.shape[0]}", max_pixels))
    top = 255 if pixels.dtype.kind in "ui" else 1
    if not (pixels.min() >= 0 and pixels.max() <= top):  # refuses NaN too
        raise BadImageError(f"{pixels.dtype} pixels outside 0..{top}")
    scaled = pixels if top == 255 else np.round(pixels.astype(np.float32) * 255)
    return _eight_bits(Image.fromarray(np.ascontiguousarray(scaled.astype(np.uint8))))


def as_colour(prepared: Prepared) -> Prepared:
    """Give a grey image three equal channels, for a set with colour images."""
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
        # Not ImageOps.contain, which rounds the short side of a very long image down to 0.
        width, height = (max(1, round(edge * size / longest)) for edge in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    canvas = Image.new(image.mode, (size, size), _border_colour(image))
    canvas.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
    return canvas


def image_id(image: Image.Image) -> str:
    """Return the content id: images with the same mode, size and pixels have the same id, whatever file they came from.

    >>> image_id(Image.new("L", (2, 2)))
    '8de938dc058624e6'
    """
    header = f"{image.mode} {image.width}x{image.height} ".encode()
    return hashlib.sha256(header + image.tobytes()).hexdigest()[:16]


def _read(path: Path, limit: int) -> bytes:
    try:
        if not path.is_file():
            raise BadImageError("file not found" if not path.exists() else "not a regular file")
        if path.stat().st_size > limit:
            raise BadImageError(f"file over {limit / 1e6:,.0f} MB; raise max_pixels if it is right")
        return path.read_bytes()
    except OSError as error:
        raise BadImageError(f"cannot be read ({error.strerror or error})") from error


def _too_large(size: str, max_pixels: int) -> str:
    return f"too large: {size}, over max_pixels = {max_pixels:,}"


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        return _deep_grey(image)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        solid = image.convert("RGBA")
        canvas = Image.new("RGBA", solid.size, "white")
        return Image.alpha_composite(canvas, solid).convert(
            "L" if image.mode in ("LA", "La") else "RGB"
        )
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _deep_grey(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if image.mode == "F":
        return from_array(values, values.size)
    if values.min() < 0 or values.max() > 65535:
        raise BadImageError("grey values outside 16 bits")
    # Pillow would clip 16-bit grey at 255 and turn an X-ray white.
    return Image.fromarray((values.astype(np.uint32) >> 8).astype(np.uint8))


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
