"""What is particular to the datasets of models and pages."""

from pathlib import Path

import pytest
from kedro.io.core import DatasetError

from tckr.classifiers.resnet import ResNet
from tckr.datasets.adapter import AdapterDataset
from tckr.datasets.classifier import ClassifierDataset
from tckr.datasets.html import HtmlDataset
from tckr.errors import UserError


def test_a_classifier_is_a_configuration_and_weights(tmp_path: Path) -> None:
    ClassifierDataset(filepath=str(tmp_path / "teacher")).save(ResNet(1, 3, (8, 16), 2).eval())
    assert sorted(path.name for path in (tmp_path / "teacher").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]


def test_a_damaged_adapter_is_named(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter/pytorch_lora_weights.safetensors").write_bytes(b"not weights")

    with pytest.raises(DatasetError) as error:
        AdapterDataset(filepath=str(tmp_path / "adapter")).load()
    assert isinstance(error.value.__cause__, UserError)


def test_the_preview_of_a_page_is_the_page(tmp_path: Path) -> None:
    dataset = HtmlDataset(filepath=str(tmp_path / "page.html"))
    dataset.save("<p>grün</p>")
    assert dataset.preview() == "<p>grün</p>"
