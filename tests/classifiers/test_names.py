"""Class names are saved with a classifier, ours or one of transformers, and come back with it."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, ViTConfig, ViTForImageClassification

from tckr.classifiers.hub import HubClassifier
from tckr.classifiers.models import Network, load, save
from tckr.classifiers.names import check_finite, class_names, named
from tckr.classifiers.resnet import ResNet
from tckr.errors import UserError

NAMES = ["ant", "two\nlines", "=1+1", *(f"class {n}" for n in range(9))]


def ours() -> Network:
    return ResNet(1, len(NAMES), (4,), 1)


def of_transformers() -> Network:
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=8,
        num_labels=len(NAMES),
    )  # fmt: skip
    network = ViTForImageClassification(config)
    return HubClassifier(network, channels=3, side=32, mean=[0.5] * 3, std=[0.5] * 3)


@pytest.mark.parametrize("make", [ours, of_transformers])
def test_names_survive_the_disk(make: type[Network], tmp_path: Path) -> None:
    save(named(make(), NAMES), tmp_path / "student")

    assert class_names(load(tmp_path / "student")) == NAMES
    config = json.loads((tmp_path / "student/config.json").read_text())
    assert config["id2label"] == {str(number): name for number, name in enumerate(NAMES)}
    assert config["label2id"] == {name: number for number, name in enumerate(NAMES)}


@pytest.mark.parametrize("make", [ours, of_transformers])
def test_a_network_without_names_has_none_afterwards(make: type[Network], tmp_path: Path) -> None:
    model = make()
    save(model, tmp_path / "teacher")
    again = load(tmp_path / "teacher")
    assert class_names(again) == []
    assert again.config == model.config == named(make(), NAMES).config


def test_transformers_reads_the_names(tmp_path: Path) -> None:
    save(named(of_transformers(), NAMES), tmp_path / "student")
    config = AutoConfig.from_pretrained(tmp_path / "student")
    assert [config.id2label[number] for number in range(len(NAMES))] == NAMES


def test_names_and_classes_are_as_many() -> None:
    with pytest.raises(ValueError, match="1 names for a network of 12"):
        named(ours(), ["ant"])


def test_a_diverged_network_is_refused() -> None:
    model = ours()
    check_finite(model, "student")
    with torch.no_grad():
        model.head.weight[0, 0] = float("nan")
    with pytest.raises(UserError, match="weights of the student are not finite"):
        check_finite(model, "student")
