"""A public pool is read from whatever holds labelled images, at the size and colour of the private set."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tckr.errors import UserError
from tckr.images.pool import read_pool

SHIPPED = Path(__file__).parents[2] / "data/01_raw/public/pool.parquet"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder per category of photographs of several sizes, one of them in colour."""
    draw = np.random.default_rng(0)
    for place, category in enumerate(("cats", "ants", "bees")):
        (tmp_path / category).mkdir()
        for turn in range(3 + place):
            shape = (20 + turn, 30, 3) if turn % 2 else (24, 24)
            pixels = draw.integers(0, 256, shape, np.uint8)
            Image.fromarray(pixels).save(tmp_path / category / f"{turn}.png")
    return tmp_path


@pytest.mark.parametrize("channels", [1, 3])
def test_a_folder_per_category_is_a_pool(folder: Path, channels: int) -> None:
    pool = read_pool(folder, 16, channels)
    assert pool.images.shape == (12, channels, 16, 16)
    assert pool.images.dtype == torch.uint8
    assert pool.categories == ("ants", "bees", "cats")
    assert [len(pool.of(category)) for category in range(3)] == [4, 5, 3]


def test_a_table_and_a_folder_are_the_same_pool(folder: Path, tmp_path: Path) -> None:
    files = sorted(folder.rglob("*.png"))
    rows = {"image": [f.read_bytes() for f in files], "category": [f.parent.name for f in files]}
    table = tmp_path / "pool.parquet"
    pd.DataFrame(rows).to_parquet(table)
    one, other = read_pool(folder, 16, 1), read_pool(table, 16, 1)
    assert one.categories == other.categories
    for category in range(3):
        assert torch.equal(one.of(category), other.of(category))


def test_a_damaged_image_is_left_out(folder: Path) -> None:
    (folder / "cats/0.png").write_bytes(b"no image")
    assert len(read_pool(folder, 17, 1).images) == 11


def test_what_is_no_pool_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"There is no .*nowhere"):
        read_pool(tmp_path / "nowhere", 16, 1)
    for category in ("bees", "ants"):
        for file in (folder / category).iterdir():
            file.unlink()
        (folder / category).rmdir()
    with pytest.raises(UserError, match="single class"):
        read_pool(folder, 18, 1)


def test_the_shipped_pool_is_small_and_balanced() -> None:
    pool = read_pool(SHIPPED, 28, 1)
    counts = torch.bincount(pool.labels)
    assert len(pool.categories) >= 60
    assert counts.min() == counts.max() >= 12
    assert SHIPPED.stat().st_size <= 6e6
    words = set(re.findall(r"[a-z]+", " ".join(pool.categories).lower()))
    assert not words & {"car", "cars", "truck", "plane", "ship", "transport", "fashion", "flag"}
