"""What holds for every dataset: data comes back as it was saved, versions stand side by side, others may read."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from kedro.io.core import AbstractVersionedDataset, DatasetError, Version
from PIL import Image

from tckr.classifiers.resnet import ResNet
from tckr.datasets.adapter import AdapterDataset
from tckr.datasets.artefact import ArtefactDataset
from tckr.datasets.classifier import ClassifierDataset
from tckr.datasets.html import HtmlDataset
from tckr.datasets.image_table import ImageTableDataset
from tckr.datasets.picture import PictureDataset
from tckr.datasets.pretrained import PretrainedDataset
from tckr.datasets.tensors import TensorsDataset
from tckr.diffusion.adapter import Adapter
from tckr.diffusion.update import DenoiserUpdate
from tckr.images.tensors import to_png

OLD, NEW = "2026-01-01T00.00.00.000Z", "2026-01-02T00.00.00.000Z"


class Part:
    """Saves itself as the parts of a transformers model do."""

    def __init__(self, text: str) -> None:
        self.text = text

    def save_pretrained(self, folder: Path) -> None:
        (folder / "part.txt").write_text(self.text)


class Case(NamedTuple):
    kind: type[AbstractVersionedDataset]
    make: Callable[[int], Any]  # two values, of 0 and of 1, that differ
    plain: Callable[[Any], Any] = lambda value: value  # what `==` compares


def numbers(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def lists(tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    return {name: (value.dtype, value.tolist()) for name, value in tensors.items()}


def tensors(seed: int) -> dict[str, torch.Tensor]:
    """One of them not contiguous."""
    images = (255 * numbers(seed, 5, 1, 4, 3)).to(torch.uint8).transpose(2, 3)
    return {"images": images, "labels": torch.arange(5), "half": numbers(seed, 2).half()}


def adapter(seed: int) -> Adapter:
    return Adapter(
        {
            "down.to_q.lora_A.weight": numbers(seed, 2, 8),
            "down.to_q.lora_B.weight": numbers(seed, 8, 2),
        }
    )


def update(seed: int) -> DenoiserUpdate:
    return DenoiserUpdate({"conv_in.weight": numbers(seed, 4, 2, 3, 3).transpose(0, 1)})


def classifier(seed: int) -> ResNet:
    torch.manual_seed(seed)
    return ResNet(1, 3, (8, 16), 2).eval()


def image_table(seed: int) -> pd.DataFrame:
    pixels = (255 * numbers(seed, 2, 1, 8, 8)).to(torch.uint8)
    return pd.DataFrame(
        {
            "image": to_png(pixels),
            "split": ["members", "test"],
            "label": [0, 1],
            "class_name": ["bag", "boot"],
        }
    )


def table(seed: int) -> pd.DataFrame:
    return pd.DataFrame(
        {"text": ["a bag", "grün"], "n": [seed, 2], "x": [0.1, np.nan]}, index=[7, 3]
    )


def frame(value: pd.DataFrame) -> list[Any]:
    return [value.to_json(), value.index.tolist(), value.dtypes.astype(str).tolist()]


CASES = {
    "adapter": Case(AdapterDataset, adapter, lambda value: lists(value.weights)),
    "update of every weight": Case(AdapterDataset, update, lambda value: lists(value.weights)),
    "classifier": Case(
        ClassifierDataset,
        classifier,
        lambda model: model(numbers(9, 4, 1, 16, 16)).detach().tolist(),
    ),
    "html": Case(HtmlDataset, lambda seed: f"<p>grün {seed}</p>"),
    "image table": Case(
        ImageTableDataset, image_table, lambda value: value[sorted(value)].to_dict("list")
    ),
    "picture": Case(
        PictureDataset,
        lambda seed: Image.fromarray((255 * numbers(seed, 4, 5, 3)).to(torch.uint8).numpy()),
        lambda picture: np.asarray(picture).tolist(),
    ),
    "pretrained": Case(
        PretrainedDataset,
        lambda seed: [Part(str(seed))],
        lambda value: [
            value[0].text if isinstance(value, list) else (value / "part.txt").read_text()
        ],
    ),
    "tensors": Case(TensorsDataset, tensors, lists),
    "artefact: table": Case(ArtefactDataset, table, frame),
    "artefact: tensors": Case(ArtefactDataset, tensors, lists),
    "artefact: adapter": Case(ArtefactDataset, adapter, lambda value: lists(value.weights)),
    "artefact: value": Case(
        ArtefactDataset, lambda seed: {"epsilon": 0.1 + 0.2, "votes": [seed, None, "grün"]}
    ),
    "artefact: number": Case(ArtefactDataset, lambda seed: seed),
}
every_dataset = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def versioned(case: Case, folder: Path, load: str | None = None, save: str | None = None) -> Any:
    return case.kind(filepath=str(folder / "entry"), version=Version(load, save))


@every_dataset
def test_data_comes_back_as_it_was_saved(case: Case, tmp_path: Path) -> None:
    dataset = case.kind(filepath=str(tmp_path / "deeper/entry"))
    assert not dataset.exists()
    data = case.make(0)
    dataset.save(data)
    assert dataset.exists()
    assert case.plain(dataset.load()) == case.plain(data)
    assert "entry" in str(dataset)


@every_dataset
def test_without_versions_the_last_save_replaces_the_others(case: Case, tmp_path: Path) -> None:
    dataset = case.kind(filepath=str(tmp_path / "entry"))
    dataset.save(case.make(0))
    dataset.save(case.make(1))
    assert case.plain(dataset.load()) == case.plain(case.make(1)) != case.plain(case.make(0))
    assert [path.name for path in tmp_path.iterdir()] == ["entry"]


@every_dataset
def test_versions_stand_side_by_side(case: Case, tmp_path: Path) -> None:
    versioned(case, tmp_path, save=OLD).save(case.make(0))
    versioned(case, tmp_path, save=NEW).save(case.make(1))
    assert case.plain(versioned(case, tmp_path).load()) == case.plain(case.make(1))
    assert case.plain(versioned(case, tmp_path, load=OLD).load()) == case.plain(case.make(0))
    assert versioned(case, tmp_path).exists()
    assert sorted(path.name for path in (tmp_path / "entry").iterdir()) == [OLD, NEW]


@every_dataset
def test_others_may_read_what_the_umask_lets_them(case: Case, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        case.kind(filepath=str(tmp_path / "entry")).save(case.make(0))
    finally:
        os.umask(before)
    for path in tmp_path.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644), path


@every_dataset
def test_a_failed_save_leaves_nothing(case: Case, tmp_path: Path) -> None:
    with pytest.raises(DatasetError):
        versioned(case, tmp_path, save=NEW).save(object())
    assert not versioned(case, tmp_path).exists()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
