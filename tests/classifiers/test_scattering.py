"""The scattering transform gives kymatio's numbers and keeps images apart."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tckr.classifiers.scattering import PATHS, dimension, scattering, scattering_features

# kymatio 0.3.0, ScatteringTorch2D(J=2, L=8) of `pattern`: coefficients (path, column) of the last row, sum and sum of squares.
PLACES = [(0, 0), (1, 0), (5, 1), (9, 0), (16, 1), (17, 0), (40, 1), (80, 0)]
KYMATIO = {
    (28, 28): ([0.523084, 0.082247, 0.089204, 0.015482, 0.018229, 0.012623, 0.003037, 0.004917], 76.813407, 14.076918),
    (30, 41): ([0.536556, 0.059091, 0.101334, 0.013967, 0.013532, 0.012848, 0.004466, 0.001672], 111.281580, 19.967472),
    (8, 9): ([0.482738, 0.090605, 0.048590, 0.028613, 0.047213, 0.009776, 0.003035, 0.007274], 5.922336, 1.229970),
    (31, 29): ([0.550280, 0.047766, 0.106804, 0.013035, 0.013222, 0.009384, 0.005375, 0.002056], 77.626330, 14.105726),
}  # fmt: skip


def pattern(height: int, width: int) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return ((3 * y + 5 * x + y * x) % 17 / 16)[None, None]


@pytest.mark.parametrize("size", KYMATIO)
def test_numbers_are_those_of_kymatio(size: tuple[int, int]) -> None:
    found = scattering(pattern(*size))[0, 0]
    values, total, squares = KYMATIO[size]
    # kymatio takes 3.1415 for pi, so that its filters are larger by 3e-5
    assert [float(found[path, -1, column]) for path, column in PLACES] == pytest.approx(
        values, rel=2e-4, abs=1e-6
    )
    assert float(found.double().sum()) == pytest.approx(total, rel=1e-4)
    assert float(found.double().square().sum()) == pytest.approx(squares, rel=2e-4)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 3), st.integers(8, 40), st.integers(8, 40))
def test_shapes_and_lengths(channels: int, height: int, width: int) -> None:
    images = torch.rand(2, channels, height, width)
    size = dimension(channels, height, width)
    assert scattering(images).shape[:3] == (2, channels, PATHS)
    features = scattering_features(images)
    assert features.shape == (2, size)
    assert torch.allclose(features.norm(dim=1), torch.full((2,), size**0.5), rtol=1e-5)


def test_an_image_alone_decides_its_features() -> None:
    images = torch.rand(5, 1, 28, 28)
    assert torch.allclose(
        scattering_features(images)[3:4], scattering_features(images[3:4]), atol=1e-4
    )


def test_an_image_without_contrast_gives_finite_numbers() -> None:
    assert scattering_features(torch.zeros(1, 1, 28, 28)).isfinite().all()


def test_too_small() -> None:
    with pytest.raises(ValueError, match="at least 8"):
        scattering(torch.rand(1, 1, 7, 28))
