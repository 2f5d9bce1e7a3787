"""Real image files to ingest."""

import io
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Pixels = Callable[..., np.ndarray]


@pytest.fixture
def pixels() -> Pixels:
    """Random pixels: `pixels(seed, height, width, channels)`, channels 0 for grey."""

    def make(seed: int, height: int = 12, width: int = 12, channels: int = 0) -> np.ndarray:
        shape = (height, width, channels) if channels else (height, width)
        return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)

    return make


@pytest.fixture
def encoded(pixels: Pixels) -> Callable[..., bytes]:
    """An image file's bytes: `encoded(seed, height, width, channels, format)`."""

    def make(
        seed: int, height: int = 12, width: int = 12, channels: int = 0, file_format: str = "PNG"
    ) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(pixels(seed, height, width, channels)).save(buffer, format=file_format)
        return buffer.getvalue()

    return make


@pytest.fixture
def class_folders(encoded: Callable[..., bytes]) -> Callable[..., Path]:
    """A folder per class of distinct images: `class_folders(root, {"cat": 30, "dog": 20})`."""

    def make(root: Path, counts: Mapping[str, int], first_seed: int = 0, channels: int = 0) -> Path:
        seed = first_seed
        for name, count in counts.items():
            folder = root / name
            folder.mkdir(parents=True, exist_ok=True)
            for index in range(count):
                content = encoded(seed, channels=channels)
                (folder / f"{index:04}.png").write_bytes(content)
                seed += 1
        return root

    return make


@pytest.fixture
def forged_png() -> bytes:
    """A PNG of 57 bytes whose header declares 30,000 x 20,000 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + crc

    header = struct.pack(">IIBBBBB", 30_000, 20_000, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body
