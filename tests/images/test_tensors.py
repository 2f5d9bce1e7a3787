import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tckr.images.tensors import CHUNK, to_png, to_tensor


@given(
    n=st.integers(1, 5),
    channels=st.sampled_from([1, 3]),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=30, deadline=None)
def test_png_and_back_changes_nothing(n, channels, height, width, seed):
    drawn = np.random.default_rng(seed).integers(0, 256, (n, channels, height, width), np.uint8)
    images = torch.from_numpy(drawn)
    assert torch.equal(to_tensor(to_png(images)), images)


def test_order_is_kept_across_threads():
    n = 2 * CHUNK + 7
    images = (torch.arange(n) % 256).to(torch.uint8).view(n, 1, 1, 1).expand(n, 1, 2, 2)
    assert torch.equal(to_tensor(to_png(images)), images)


def test_channels_are_converted_on_demand(encoded):
    grey, colour = encoded(0), encoded(1, channels=3)
    assert to_tensor([grey, colour]).shape == (2, 1, 12, 12)
    assert to_tensor([colour, grey]).shape == (2, 3, 12, 12)
    assert to_tensor([grey], channels=3).unique(dim=1).shape[1] == 1


def test_equal_pixels_give_equal_bytes_and_no_metadata():
    (content,) = to_png(torch.zeros(1, 3, 4, 4, dtype=torch.uint8))
    assert content == to_png(torch.zeros(1, 3, 4, 4, dtype=torch.uint8))[0]
    assert Image.open(io.BytesIO(content)).info == {}


@pytest.mark.parametrize(
    "images", [torch.zeros(1, 1, 2, 2), torch.zeros(1, 2, 2, 2, dtype=torch.uint8)]
)
def test_to_png_refuses_other_types_and_shapes(images):
    with pytest.raises(ValueError, match="uint8"):
        to_png(images)


def test_to_tensor_refuses_mixed_sizes_nothing_and_odd_channels(encoded):
    with pytest.raises(ValueError, match="one size"):
        to_tensor([encoded(0), encoded(1, height=13)])
    with pytest.raises(ValueError, match="at least one"):
        to_tensor([])
    with pytest.raises(ValueError, match="1 or 3"):
        to_tensor([encoded(0)], channels=2)
