"""Tensors come back as they were saved, with and without tckr."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from tckr.datasets.tensors import TensorsDataset


def test_tensors(tmp_path: Path) -> None:
    pool = {
        "images": torch.randint(0, 256, (5, 1, 4, 4), dtype=torch.uint8).transpose(2, 3),
        "labels": torch.arange(5),
    }
    dataset = TensorsDataset(filepath=str(tmp_path / "pool"))
    dataset.save(pool)

    for found in (dataset.load(), load_file(tmp_path / "pool" / "tensors.safetensors")):
        assert set(found) == set(pool)
        assert all(torch.equal(found[name], pool[name]) for name in pool)
        assert all(found[name].dtype == pool[name].dtype for name in pool)
