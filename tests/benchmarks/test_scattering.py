"""The benchmark's two ways give the same coefficients, and it runs through."""

import json
from pathlib import Path

import pytest
import torch
from benchmarks.scattering import by_fourier_transforms, main

from tckr.classifiers.scattering import scattering


@pytest.mark.parametrize("shape", [(3, 1, 28, 28), (2, 3, 9, 14)])
def test_both_ways_give_the_same(shape: tuple[int, ...]) -> None:
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0)).double()
    assert torch.allclose(by_fourier_transforms(images), scattering(images), atol=1e-12)


def test_small(tmp_path: Path) -> None:
    main(["--small", "--json", str(tmp_path / "result.json")])
    rows = json.loads((tmp_path / "result.json").read_text())["rows"]
    assert [row["side"] for row in rows] == [8, 28]
    assert all(row["differs"] < 1e-5 < row["ratio"] for row in rows)
