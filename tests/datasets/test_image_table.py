import base64
import io
from itertools import count

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from kedro.io import DataCatalog, DatasetError
from kedro.io.core import Version
from PIL import Image

import datasets
from tckr.datasets.image_table import ImageTableDataset
from tckr.images.tensors import to_png

CLASSES = ["ant", "bee", "cow"]


@pytest.fixture
def private() -> pd.DataFrame:
    n = 24
    drawn = np.random.default_rng(0).integers(0, 256, (n, 1, 8, 8), dtype=np.uint8)
    labels = np.arange(n, dtype=np.int64) % 3
    return pd.DataFrame(
        {
            "image_id": [f"{index:016x}" for index in range(n)],
            "split": ["members"] * 9 + ["holdout"] * 9 + ["validation"] * 3 + ["test"] * 3,
            "label": labels,
            "class_name": [CLASSES[label] for label in labels],
            "image": to_png(torch.from_numpy(drawn)),
        }
    )


@pytest.fixture
def recycled(private) -> pd.DataFrame:
    soft = np.random.default_rng(1).dirichlet(np.ones(3), len(private)).astype(np.float32)
    return private.assign(split="train", prompt="ant: small, grün", soft_label=list(soft), rank=1.5)


@pytest.fixture
def versioned(tmp_path):
    numbers = count(1)

    def make(**options) -> ImageTableDataset:
        path, version = str(tmp_path / "table"), Version(None, f"version {next(numbers)}")
        return ImageTableDataset(filepath=path, version=version, **options)

    return make


def opened(dataset, tmp_path):
    folder = str(dataset._get_load_path())
    return datasets.load_dataset(folder, cache_dir=str(tmp_path / "cache"))


def test_a_table_comes_back_as_it_was(versioned, private, recycled):
    for table in (private, recycled):
        dataset = versioned()
        dataset.save(table)
        back = dataset.load()
        assert back["image"].dtype == "encoded image"
        pd.testing.assert_frame_equal(
            back.astype({"image": object}).drop(columns="soft_label", errors="ignore"),
            table.drop(columns="soft_label", errors="ignore"),
        )
    assert all(row.dtype == np.float32 for row in back["soft_label"])
    assert (np.stack(back["soft_label"]) == np.stack(recycled["soft_label"])).all()


def test_the_datasets_library_opens_the_recycled_set(versioned, recycled, tmp_path):
    dataset = versioned()
    dataset.save(recycled)
    (train,) = opened(dataset, tmp_path).values()
    assert isinstance(train.features["image"], datasets.Image)
    assert train.features["label"].names == CLASSES
    assert train.features["soft_label"] == datasets.List(datasets.Value("float32"))
    assert train.features["prompt"] == datasets.Value("string")
    assert train[1]["image"].mode == "L"
    assert train[1]["image"].size == (8, 8)
    assert np.allclose(train[1]["soft_label"], recycled["soft_label"][1])


def test_the_datasets_library_opens_all_splits(versioned, private, tmp_path):
    dataset = versioned()
    dataset.save(private)
    found = opened(dataset, tmp_path)
    assert {split: part.num_rows for split, part in found.items()} == {
        "members": 9,
        "holdout": 9,
        "validation": 3,
        "test": 3,
    }


def test_rows_are_grouped_by_split(versioned, private):
    dataset = versioned()
    dataset.save(private.sample(frac=1, random_state=0))
    splits = dataset.load()["split"]
    assert list(splits.unique()) == ["members", "holdout", "validation", "test"]
    assert (splits == private["split"]).all()


def test_the_card_says_what_it_is_and_what_it_leaks(versioned, private, recycled):
    card = {"title": "Recycled ants", "licence": "mit", "description": "Made by a test."}
    dataset = versioned(card=card)
    dataset.save(recycled)
    text = (dataset._get_load_path() / "README.md").read_text(encoding="utf-8")
    header = yaml.safe_load(text.split("---")[1])
    assert header["license"] == "mit"
    assert header["pretty_name"] == "Recycled ants"
    assert "Made by a test." in text
    assert "| bee | 8 |" in text
    assert "that teacher was trained on private images" in text
    assert "must not be shared" not in text
    dataset = versioned()
    dataset.save(private)
    text = (dataset._get_load_path() / "README.md").read_text(encoding="utf-8")
    assert "must not be shared" in text
    assert "soft_label" not in text


def test_an_unknown_key_of_the_card_is_refused(tmp_path):
    entry = {
        "type": "tckr.datasets.image_table.ImageTableDataset",
        "filepath": str(tmp_path / "table"),
        "card": {"tittle": "x"},
    }
    with pytest.raises(DatasetError, match="tittle"):
        DataCatalog.from_config({"table": entry}).get("table")


def test_classes_without_images_keep_their_place(versioned, recycled, tmp_path):
    dataset = versioned()
    dataset.save(recycled[recycled["label"] == 1])
    (train,) = opened(dataset, tmp_path).values()
    assert train.features["label"].names == ["0", "bee", "2"]
    assert set(dataset.load()["label"]) == {1}


def test_a_failed_save_leaves_nothing(versioned, private, tmp_path):
    dataset = versioned()
    assert not dataset.exists()
    with pytest.raises(DatasetError):
        dataset.save(private.assign(image=["no bytes"] * 23 + [4]))
    assert not dataset.exists()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    dataset = versioned()
    dataset.save(private)
    assert dataset.exists()


def test_preview_is_a_picture(versioned, private):
    dataset = versioned()
    dataset.save(private)
    picture = Image.open(io.BytesIO(base64.b64decode(dataset.preview())))
    assert picture.mode == "RGB"
    fewer = Image.open(io.BytesIO(base64.b64decode(dataset.preview(columns=1, classes=2))))
    assert fewer.width < picture.width
    assert fewer.height < picture.height


def test_it_describes_itself(versioned):
    assert "card=" in str(versioned())
