"""An exported set opens in other tools, whatever its classes are called."""

import csv
import json
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import datasets
from tckr.datasets.export import ExportDataset
from tckr.images.export import Export
from tckr.images.tables import with_class_names
from tckr.images.tensors import to_png

NAMES = ["a/b", "A_B", "test", "nul", "..", "=1+1", "two\nlines", "never drawn"]
DRAWN = len(NAMES) - 1


@pytest.fixture
def table() -> pd.DataFrame:
    count = 3 * DRAWN
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3, 8, 8), dtype=np.uint8)
    labels = np.arange(count) % DRAWN
    soft = np.random.default_rng(1).dirichlet(np.ones(len(NAMES)), count).astype(np.float32)
    rows = pd.DataFrame(
        {
            "image_id": [f"{number:016x}" for number in range(count)],
            "image": to_png(torch.from_numpy(pixels)),
            "split": "train",
            "label": labels,
            "class_name": [NAMES[label] for label in labels],
            "generator": "@adapted",
            "soft_label": list(soft),
        }
    )
    return with_class_names(rows, NAMES)


def exported(table: pd.DataFrame, kind: str, folder: Path) -> Path:
    dataset = ExportDataset(filepath=str(folder / "export"))
    dataset.save(Export(table, kind))
    found: Path = dataset.load()
    return found


def listed(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_for_each_class(table: pd.DataFrame, tmp_path: Path) -> None:
    folder = exported(table, "folder", tmp_path)

    # As torchvision's ImageFolder finds classes: every folder has an image, sorted names are numbers.
    classes = sorted(entry.name for entry in (folder / "train").iterdir())
    assert len(classes) == DRAWN
    assert len({name.casefold() for name in classes}) == DRAWN
    described = json.loads((folder / "classes.json").read_text(encoding="utf-8"))
    assert [row["class_name"] for row in described] == NAMES
    for row, (_, wanted) in zip(listed(folder), table.iterrows(), strict=True):
        path = folder / row["file_name"]
        assert path.read_bytes() == wanted["image"]
        assert path.parent.name == described[int(row["label"])]["folder"]
        assert int(row["label"]) == wanted["label"]
        soft = [float(row[f"probability_{number}"]) for number in range(len(NAMES))]
        assert np.allclose(soft, wanted["soft_label"], atol=1e-6)


def test_no_cell_is_a_formula(table: pd.DataFrame, tmp_path: Path) -> None:
    rows = listed(exported(table, "folder", tmp_path))
    assert {row["class_name"] for row in rows} >= {"'=1+1", "two lines", "a/b"}
    assert {row["generator"] for row in rows} == {"'@adapted"}


@pytest.mark.parametrize("whole", [True, False])
def test_the_datasets_library_opens_it(
    whole: bool, table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = exported(table, "folder", tmp_path)
    data = folder if whole else folder / "train"

    (split,) = datasets.load_dataset("imagefolder", data_dir=str(data)).values()

    assert len(split) == len(table)
    assert len(split.features["label"].names) == DRAWN
    assert split.features["label"].names == sorted(p.name for p in (folder / "train").iterdir())
    assert split[0]["image"].size == (8, 8)


def test_tar_files_hold_each_image_with_its_label(table: pd.DataFrame, tmp_path: Path) -> None:
    folder = exported(table, "webdataset", tmp_path)

    with tarfile.open(folder / "train-000000.tar") as tar:
        found = {member.name: tar.extractfile(member).read() for member in tar}
    assert len(found) == 3 * len(table)
    for number, (_, row) in enumerate(table.iterrows()):
        assert found[f"{number:06d}.png"] == row["image"]
        assert int(found[f"{number:06d}.cls"]) == row["label"]
        assert json.loads(found[f"{number:06d}.json"])["class_name"] == row["class_name"]
    (split,) = datasets.load_dataset(
        "webdataset", data_files=str(folder / "*.tar"), cache_dir=str(tmp_path / "cache")
    ).values()
    assert split["cls"][:] == table["label"].tolist()
    assert isinstance(split[0]["png"], Image.Image)


def test_the_text_beside_says_what_leaks(table: pd.DataFrame, tmp_path: Path) -> None:
    text = (exported(table, "folder", tmp_path) / "README.md").read_text(encoding="utf-8")
    assert "that teacher was trained on private images" in text
    assert "ImageFolder" in text
