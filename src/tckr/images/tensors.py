"""Convert between PNG bytes, Pillow images and uint8 tensors.

>>> pixels = torch.arange(32, dtype=torch.uint8).reshape(2, 1, 4, 4)
>>> bool((to_tensor(to_png(pixels)) == pixels).all())
True
"""

import io
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image

from tckr.engine.mapped import large_array

In = TypeVar("In")
Out = TypeVar("Out")

# One task per image would spend as long in the queue as in Pillow's decoder.
CHUNK = 256
READ = 64  # encoded images that a thread reads at once, some 10 MB of 224 pixels


def to_tensor(images: Iterable[bytes], channels: int | None = None) -> torch.Tensor:
    """Decode images of one size into one tensor.

    Pixels that exceed 1 GiB or a quarter of what is free go to a scratch file that the tensor reads and writes through
    memory mapping (`tckr.engine.mapped`); it is gone with the tensor.

    Args:
        images: Encoded images (PNG), all of the same width and height.
        channels: 1 for grey, 3 for colour; None decides by the first image.

    Returns:
        uint8 tensor (N, C, H, W), 0..255.

    Raises:
        ValueError: No images, a number of channels other than 1 or 3, or images of different sizes.
        UserError: They fit neither into memory nor on the disk.
    """
    # The column of a table is read piece by piece; what is neither a column nor a sequence has to be kept.
    encoded: Any = getattr(images, "array", images)
    encoded = encoded if hasattr(encoded, "__getitem__") else list(encoded)
    if len(encoded) == 0:
        raise ValueError("to_tensor needs at least one image.")
    first = _open(encoded[0])
    if channels is None:
        channels = 1 if first.mode in ("1", "L") else 3
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 or 3, not {channels}.")
    mode = "L" if channels == 1 else "RGB"
    width, height = first.size
    # Filled in place: a list of arrays and their stack together would take three times the memory.
    whole = large_array((len(encoded), channels, height, width), np.uint8)

    def place(rows: np.ndarray) -> set[tuple[int, ...]]:
        sizes = set()
        several = encoded[rows] if hasattr(encoded, "in_order") else [encoded[row] for row in rows]
        for row, content in zip(rows, several, strict=True):
            pixels = np.asarray(_open(content).convert(mode))
            if pixels.shape[:2] == (height, width):
                whole[row] = pixels if channels == 1 else pixels.transpose(2, 0, 1)
            sizes.add(pixels.shape[:2])
        return sizes

    order = encoded.in_order() if hasattr(encoded, "in_order") else np.arange(len(encoded))
    parts = [order[start : start + READ] for start in range(0, len(order), READ)]
    sizes = set().union(*_in_threads(place, parts))
    if len(sizes) > 1:
        raise ValueError(
            f"Images of one size are needed, found (height, width) {sorted(sizes)[:5]}."
        )
    return torch.from_numpy(whole)


def to_signed(images: torch.Tensor) -> torch.Tensor:
    """Convert uint8 to float32 in [-1, 1], the range of pixels in every miniature.

    >>> to_signed(torch.tensor([0, 255], dtype=torch.uint8))
    tensor([-1.,  1.])
    """
    return images.float() / 127.5 - 1


def to_png(images: torch.Tensor) -> list[bytes]:
    """Encode images as PNG.

    Args:
        images: uint8 tensor (N, C, H, W) on any device; C = 1 becomes grey, C = 3 colour.

    Returns:
        The bytes of one PNG file per image, without metadata; equal pixels give equal bytes.

    Raises:
        ValueError: Any other dtype or shape.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(
            f"uint8 (N, 1 or 3, H, W) is needed, got {images.dtype} {tuple(images.shape)}."
        )
    pixels = images.detach().cpu().permute(0, 2, 3, 1).contiguous().numpy()
    return in_threads(lambda array: encode(to_pil(array)), list(pixels))


def to_pil(pixels: np.ndarray) -> Image.Image:
    """Return a Pillow image (mode L or RGB) of uint8 pixels (H, W), (H, W, 1) or (H, W, 3)."""
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    return Image.fromarray(np.ascontiguousarray(pixels))


def encode(image: Image.Image) -> bytes:
    """Return an image as PNG bytes, without the metadata of the original (EXIF, GPS, text)."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def in_threads(function: Callable[[In], Out], items: Sequence[In]) -> list[Out]:
    """Apply `function` to every item in a pool of threads (Pillow releases the GIL); results in order.

    >>> in_threads(len, ["a", "bag"])
    [1, 3]
    """
    chunks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
    done = _in_threads(lambda chunk: [function(item) for item in chunk], chunks)
    return [result for chunk in done for result in chunk]


def _in_threads(function: Callable[[In], Out], parts: Sequence[In]) -> list[Out]:
    if len(parts) <= 1:
        return [function(part) for part in parts]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(function, parts))


def _open(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))
