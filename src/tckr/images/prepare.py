"""Turn one raw image into the PNG of the private set: decode it without trusting it, make it square, encode it."""

import hashlib
import io
import math
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from tckr.images.dicom import UnreadableDicomError, decode_dicom, is_dicom
from tckr.images.options import IngestionOptions
from tckr.images.pixels import Measured, Scales, measure
from tckr.images.raw import RawImage
from tckr.images.tensors import encode

# Only decoders that neither start other programs (EPS would call Ghostscript) nor read other files.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000")
BYTES_PER_PIXEL = 8
CONVERT = {
    **dict.fromkeys((".nii", ".gz"), "a NIfTI volume: save its slices as DICOM or 16-bit PNG"),
    **dict.fromkeys((".mha", ".mhd", ".nrrd"), "a volume: save its slices as DICOM or 16-bit PNG"),
    ".svg": "a drawing in SVG: save it as PNG",
    **dict.fromkeys(
        (".heic", ".heif", ".jxl", ".avif"), "of a format not read here: save it as JPEG or PNG"
    ),
}
"""What to do with images of other formats, by the end of their names."""
PNG, PNG_TEXT = b"\x89PNG\r\n\x1a\n", (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
PAGES = 16  # of a TIFF that are looked at
PHOTOMETRIC, BITS, WHITE_IS_ZERO = 262, 258, 0  # tags of TIFF
LARGE = 1_000_000
"""Pixels of a transparent image that are enough to see whether a drawing shows."""
ANY_SCALE = Scales()
UNREAD = Measured("8 bits", math.nan, math.nan, math.nan)


@dataclass(frozen=True, slots=True)
class Prepared:
    """One image, ready for the table.

    Attributes:
        raw: The image it came from, without its content.
        image_id: First 16 hex digits of SHA-256 over mode, size and pixels.
        mode: "L" or "RGB".
        png: Encoded pixels; empty once they are in a file.
        original: Mode and size in the source, as in "RGB 640x480".
        levels: Smallest and largest grey level or channel value.
        thumbnail: 16 x 16 grey levels, row by row; see `tckr.images.twins`.
        row: Of its pixels in that file.
    """

    raw: RawImage
    image_id: str
    mode: str
    png: bytes
    original: str
    levels: tuple[int, int] = (0, 255)
    thumbnail: bytes = b""
    row: int = -1


@dataclass(frozen=True)
class Skipped:
    """An image that could not be used, the reason, and its class."""

    name: str
    reason: str
    label: str | None = None


class BadImageError(Exception):
    """This image cannot be used; the message says why in a few words."""


def prepare(raw: RawImage, options: IngestionOptions, scales: Scales = ANY_SCALE) -> Prepared:
    """Decode, make square and encode one image.

    With `channels="auto"`, an image whose channels are equal becomes grey, whatever its file says.

    Raises:
        BadImageError: The image cannot be used.

    >>> white = RawImage("white", np.full((20, 30), 255, np.uint8), label="paper")
    >>> prepared = prepare(white, IngestionOptions(size=32))
    >>> prepared.mode, prepared.original
    ('L', 'L 30x20')
    """
    decoded, original = decode(
        raw.content, options.max_pixels, draft=2 * options.size, scales=scales
    )
    image = squared(decoded, options.size, options.fit)
    if options.channels == "auto":
        image = _grey_if_equal(image)
    else:
        image = image.convert("L" if options.channels == "grey" else "RGB")
    image.info = {}  # a colour profile would be written into the PNG, and may name a device or a person
    levels = np.asarray(image)
    return Prepared(
        # The content may be a whole photograph: keep only what the report needs.
        replace(raw, content=None),
        image_id(image),
        image.mode,
        encode(image),
        original,
        levels=(int(levels.min()), int(levels.max())),
        thumbnail=thumbnail(decoded),
    )


def decode(
    content: Path | bytes | np.ndarray | None,
    max_pixels: int,
    draft: int,
    scales: Scales = ANY_SCALE,
) -> tuple[Image.Image, str]:
    """Decode one untrusted image to 8 bits, upright, grey (L) or colour (RGB), without transparency.

    Args:
        content: A file, encoded bytes, or pixels ((H, W), (H, W, C) or (C, H, W)).
        max_pixels: Width x height above which an image is refused by its header.
        draft: Edge in pixels that the caller needs; a much larger JPEG is decoded at a fraction of its size.
        scales: Which values become black and white; without it, 16 bits, 0..255 or 0..1 by the type of pixels.

    Returns:
        The image, and its mode and size in the source as in "RGB 640x480".

    Raises:
        BadImageError: The image is missing, truncated, too large, or of no known format.
    """
    if content is None:
        raise BadImageError("no image")
    if isinstance(content, np.ndarray):
        image = from_array(content, max_pixels, scales)
        return image, f"{image.mode} {image.width}x{image.height}"
    encoded = _encoded(content, max_pixels)
    if is_dicom(encoded):
        image = from_array(_dicom(encoded, max_pixels, scales), max_pixels, scales)
        return image, f"DICOM {image.width}x{image.height}"
    try:
        with Image.open(io.BytesIO(_without_text(encoded)), formats=FORMATS) as image:
            _check_size(image, max_pixels)
            _refuse_preview(image)
            pages = " (first of several pages)" if _has_pages(image) else ""
            original = f"{image.mode}{pages} {image.width}x{image.height}"
            image.draft(None, (draft, draft))
            return _eight_bits(_upright(image), scales), original
    except BadImageError:
        raise
    except Image.DecompressionBombError as error:
        raise BadImageError(_too_large(str(error).split(",")[0], max_pixels)) from error
    except Image.UnidentifiedImageError as error:
        suffix = content.suffix.lower() if isinstance(content, Path) else ""
        raise BadImageError(CONVERT.get(suffix, "not an image of a known format")) from error
    except Exception as error:  # Pillow's plugins raise nearly every type on a damaged file
        raise BadImageError(f"damaged or truncated ({error})") from error


def _has_pages(image: Image.Image) -> bool:
    with suppress(Exception):  # a damaged second page is nobody's loss
        return bool(getattr(image, "is_animated", False))
    return False


def look(
    content: Path | bytes | np.ndarray | None, options: IngestionOptions, settled: bool
) -> Measured | None:
    """Measure the pixel values of one image in the source; None where there is nothing to measure.

    Args:
        content: As in `decode`.
        options: `max_pixels`, `background` and `range`.
        settled: The range of 8 bits is known: such an image is not decoded.
    """
    try:
        if isinstance(content, np.ndarray):
            values = _channels_last(content, options.max_pixels)
            return UNREAD if settled and values.dtype == np.uint8 else measure(values)
        encoded = _encoded(content, options.max_pixels) if content is not None else b""
        if is_dicom(encoded):
            scales = Scales(window=options.range == "auto")
            return measure(_dicom(encoded, options.max_pixels, scales))
        with Image.open(io.BytesIO(_without_text(encoded)), formats=FORMATS) as image:
            _check_size(image, options.max_pixels)
            if _is_deep(image):
                return measure(_deep_values(_upright(image)))
            return _look_at_eight_bits(image, options, settled)
    except Exception:  # `prepare` will say what is wrong with it
        return None


def from_array(pixels: np.ndarray, max_pixels: int, scales: Scales = ANY_SCALE) -> Image.Image:
    """Return an 8-bit image of pixels; see `decode` for shapes and ranges.

    Raises:
        BadImageError: They are no image, or outside the range.
    """
    pixels = _channels_last(pixels, max_pixels)
    try:
        values = scales.apply(pixels)
    except ValueError as error:
        raise BadImageError(str(error)) from error
    return _eight_bits(Image.fromarray(np.ascontiguousarray(values)), scales)


def thumbnail(image: Image.Image) -> bytes:
    """Return 16 x 16 grey levels of an image, row by row."""
    return image.convert("L").resize((16, 16), Image.Resampling.BOX).tobytes()


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


def _encoded(content: Path | bytes, max_pixels: int) -> bytes:
    limit = max_pixels * BYTES_PER_PIXEL
    if isinstance(content, Path):
        content = _read(content, limit)
    if len(content) > limit:
        raise BadImageError(f"over {limit / 1e6:,.0f} MB; raise max_pixels if it is right")
    if not content:
        raise BadImageError("empty file")
    return content


def _read(path: Path, limit: int) -> bytes:
    try:
        if not path.is_file():
            raise BadImageError("file not found" if not path.exists() else "not a regular file")
        if path.stat().st_size > limit:
            raise BadImageError(f"file over {limit / 1e6:,.0f} MB; raise max_pixels if it is right")
        return path.read_bytes()
    except (OSError, ValueError) as error:  # a path may hold a zero byte
        reason = getattr(error, "strerror", None) or error
        raise BadImageError(f"cannot be read ({reason})") from error


def _check_size(image: Image.Image, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise BadImageError(_too_large(f"{image.width} x {image.height}", max_pixels))


def _too_large(size: str, max_pixels: int) -> str:
    return f"too large: {size}, over max_pixels = {max_pixels:,}"


def _without_text(encoded: bytes) -> bytes:
    """Leave out the text and the colour profile of a PNG, so that no fault or size of theirs costs the pixels."""
    if not encoded.startswith(PNG):
        return encoded
    parts, start = [PNG], len(PNG)
    while start + 12 <= len(encoded):
        end = start + 12 + int.from_bytes(encoded[start : start + 4], "big")
        if encoded[start + 4 : start + 8] not in PNG_TEXT:
            parts.append(encoded[start:end])
        start = end
    parts.append(encoded[start:])
    return b"".join(parts)


def _dicom(encoded: bytes, max_pixels: int, scales: Scales) -> np.ndarray:
    try:
        return decode_dicom(encoded, max_pixels, scales.window)
    except UnreadableDicomError as error:
        raise BadImageError(str(error)) from error


def _channels_last(pixels: np.ndarray, max_pixels: int) -> np.ndarray:
    """Return pixels as (H, W), (H, W, 3) or (H, W, 4)."""
    if pixels.ndim == 3 and pixels.shape[0] in (1, 3, 4) and pixels.shape[2] not in (1, 3, 4):
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    colour = pixels.ndim == 3 and pixels.shape[2] in (3, 4)
    if pixels.size == 0 or not (pixels.ndim == 2 or colour) or pixels.dtype.kind not in "buif":
        raise BadImageError(f"array of shape {pixels.shape} and type {pixels.dtype} is no image")
    if pixels.shape[0] * pixels.shape[1] > max_pixels:
        raise BadImageError(_too_large(f"{pixels.shape[1]} x {pixels.shape[0]}", max_pixels))
    return pixels


def _eight_bits(image: Image.Image, scales: Scales) -> Image.Image:
    if _is_deep(image):
        values = _deep_values(image)
        return from_array(values, values.size, scales)
    flat = _on(image, scales.background)
    scale = scales.of_kind.get("8 bits")
    if scale is None or (scale.low, scale.high) == (0, 255):
        return flat
    return Image.fromarray(scale.apply(np.asarray(flat)))


def _look_at_eight_bits(
    image: Image.Image, options: IngestionOptions, settled: bool
) -> Measured | None:
    transparent = _is_transparent(image) and options.background == "auto"
    if settled and not transparent:
        return UNREAD
    # Pillow forgets the tiles of a file once they are decoded.
    upper_bits = any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
    if transparent and image.width * image.height > LARGE:
        factor = math.ceil(math.sqrt(image.width * image.height / LARGE))
        image = image.convert("RGBA").reduce(factor)
    on_white = np.asarray(_on(image, "white"))
    on_black = np.asarray(_on(image, "black")) if transparent else on_white
    shown = max(on_white, on_black, key=np.ptp)
    measured = UNREAD if settled else measure(shown)
    if measured is None or not transparent:
        return replace(measured, upper_bits=upper_bits) if measured else None
    return replace(
        measured,
        upper_bits=upper_bits,
        contrast_on_white=int(np.ptp(on_white)),
        contrast_on_black=int(np.ptp(on_black)),
    )


def _refuse_preview(image: Image.Image) -> None:
    """Refuse a TIFF whose first page is smaller than a later one: a preview of what is meant."""
    if image.format != "TIFF" or not _has_pages(image):
        return
    size, larger = image.width * image.height, None
    with suppress(Exception):  # a damaged later page is nobody's loss
        for page in range(1, min(getattr(image, "n_frames", 1), PAGES)):
            image.seek(page)
            if larger is None and image.width * image.height > size:
                larger = page + 1
    image.seek(0)
    if larger is not None:
        raise BadImageError(
            f"a TIFF whose page {larger} is larger than its first: save the page that is meant"
        )


def _upright(image: Image.Image) -> Image.Image:
    """Return an image turned as its header says, with large values bright: TIFF may count them the other way.

    Raises:
        BadImageError: Values that cannot be turned round, since they have no largest one.
    """
    tags = getattr(image, "tag_v2", {})
    upright = ImageOps.exif_transpose(image)
    if tags.get(PHOTOMETRIC, 1) != WHITE_IS_ZERO or not _is_deep(image):
        return upright  # Pillow turns 8 bits round
    values = np.asarray(upright)
    bits = tags.get(BITS, (16,))[0]
    if image.mode == "F" or values.min() < 0 or bits > 16:
        raise BadImageError("a TIFF in which white is 0, of a type that has no black")
    return Image.fromarray((2**bits - 1 - values.astype(np.int64)).astype(np.uint16))


def _is_deep(image: Image.Image) -> bool:
    return image.mode in ("I", "F") or image.mode.startswith("I;")


def _deep_values(image: Image.Image) -> np.ndarray:
    """Return the values of an image of more than 8 bits; what fits into 16 bits as uint16."""
    values = np.asarray(image)
    fits = image.mode != "F" and values.min() >= 0 and values.max() <= 65535
    return values.astype(np.uint16) if fits else values


def _is_transparent(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info


def _on(image: Image.Image, background: str) -> Image.Image:
    """Return an image of 8 bits as L or RGB, on a background where it is transparent."""
    if _is_transparent(image):
        solid = image.convert("RGBA")
        canvas = Image.new("RGBA", solid.size, background)
        return Image.alpha_composite(canvas, solid).convert(
            "L" if image.mode in ("LA", "La") else "RGB"
        )
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


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
