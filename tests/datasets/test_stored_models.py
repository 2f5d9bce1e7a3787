"""Classifiers, adapters and pages come back as they were saved."""

from pathlib import Path

import pytest
import torch
from kedro.io.core import DatasetError

from tckr.classifiers.resnet import ResNet
from tckr.datasets.adapter import AdapterDataset
from tckr.datasets.classifier import ClassifierDataset
from tckr.datasets.html import HtmlDataset
from tckr.diffusion.lora import Adapter
from tckr.errors import UserError


def test_classifier(tmp_path: Path) -> None:
    model = ResNet(1, 3, (8, 16), 2).eval()
    dataset = ClassifierDataset(filepath=str(tmp_path / "teacher"))
    dataset.save(model)

    images = torch.rand(4, 1, 16, 16)
    assert torch.equal(dataset.load()(images), model(images))
    assert sorted(path.name for path in (tmp_path / "teacher").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]


def test_adapter(tmp_path: Path) -> None:
    weights = {
        "down.to_q.lora_A.weight": torch.rand(2, 8),
        "down.to_q.lora_B.weight": torch.rand(8, 2),
    }
    dataset = AdapterDataset(filepath=str(tmp_path / "adapter"))
    dataset.save(Adapter(weights))

    loaded = dataset.load().weights
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[name], weights[name]) for name in weights)


def test_a_damaged_adapter_is_named(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter/pytorch_lora_weights.safetensors").write_bytes(b"not weights")

    with pytest.raises(DatasetError) as error:
        AdapterDataset(filepath=str(tmp_path / "adapter")).load()
    assert isinstance(error.value.__cause__, UserError)


def test_page(tmp_path: Path) -> None:
    dataset = HtmlDataset(filepath=str(tmp_path / "page.html"))
    dataset.save("<p>grün</p>")

    assert dataset.load() == dataset.preview() == "<p>grün</p>"
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
