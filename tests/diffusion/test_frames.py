"""Images come back from the generator's frame as they went in."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tckr.diffusion.frames import from_frame, to_bytes, to_frame
from tckr.images.tensors import to_signed


@given(st.integers(24, 32), st.integers(24, 32), st.sampled_from([1, 3]), st.integers(0, 99))
def test_padding_loses_nothing(height: int, width: int, channels: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (2, channels, height, width), dtype=torch.uint8, generator=draw)
    frames = to_frame(images, 32)
    assert frames.shape == (2, 3, 32, 32)
    assert torch.equal(from_frame(frames, height, width, channels), images)


@pytest.mark.parametrize("size", [(8, 8), (64, 48), (300, 20)])
def test_other_sizes_are_resized(size: tuple[int, int]) -> None:
    images = torch.full((1, 3, *size), 77, dtype=torch.uint8)
    frames = to_frame(images, 32)
    assert torch.equal(from_frame(frames, *size, 3), images)


@pytest.mark.parametrize("upright", [True, False])
def test_long_images_are_cropped_to_their_middle(upright: bool) -> None:
    long = torch.zeros(1, 1, 64, 192, dtype=torch.uint8)
    long[..., 64:128] = torch.arange(64, dtype=torch.uint8)[None, None, :, None] + 100
    images = long.transpose(2, 3) if upright else long
    frames = to_frame(images, 64)
    middle = images[:, :, 64:128] if upright else images[..., 64:128]
    assert torch.equal(frames, middle.expand(-1, 3, -1, -1))


def test_bytes_and_signed_are_inverse() -> None:
    images = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_bytes(to_signed(images)), images)
