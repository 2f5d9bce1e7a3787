import base64
import io
import re
from itertools import count

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from huggingface_hub import DatasetCard
from kedro.io import DataCatalog, DatasetError
from kedro.io.core import Version
from PIL import Image

import datasets
from tckr.classifiers.fixed_views import fixed_views
from tckr.classifiers.options import AugmentationOptions
from tckr.datasets.image_table import ImageTableDataset
from tckr.images.degenerate import RunWarning, with_warnings
from tckr.images.tables import VIEWS, class_names, with_class_names
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


def test_labels_of_views_are_kept_and_the_card_says_how_to_make_the_views(
    versioned, recycled, tmp_path
):
    soft = np.random.default_rng(2).dirichlet(np.ones(3), (len(recycled), 4)).astype(np.float32)
    several = recycled.assign(soft_labels=list(soft))
    several.attrs[VIEWS] = [list(view) for view in fixed_views(4, AugmentationOptions())]
    dataset = versioned()
    dataset.save(several)
    back = dataset.load()
    assert (np.array([np.stack(row) for row in back["soft_labels"]]) == soft).all()
    (train,) = opened(dataset, tmp_path).values()
    assert np.allclose(train["soft_labels"][:], soft)
    text = (dataset._get_load_path() / "README.md").read_text(encoding="utf-8")
    view = fixed_views(4, AugmentationOptions())[3]
    assert f"| 3 | yes | {view.down} | {view.right} | {view.contrast:g} | {view.offset:g} |" in text
    assert "soft_labels" not in (card_of(versioned(), recycled))


def card_of(dataset, table) -> str:
    dataset.save(table)
    return (dataset._get_load_path() / "README.md").read_text(encoding="utf-8")


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


def test_the_hub_reads_features_size_and_tags_from_the_card(versioned, recycled, tmp_path):
    dataset = versioned(card={"title": "Recycled ants", "tags": ["synthetic"]})
    card_of(dataset, recycled)
    folder = dataset._get_load_path()
    about = DatasetCard.load(f"{folder}/README.md").data
    found = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))

    assert about.tags == ["synthetic"]
    assert about.size_categories == ["n<1K"]
    described = datasets.Features._from_yaml_list(about.to_dict()["dataset_info"]["features"])
    assert described == found.features
    assert described["label"].names == CLASSES
    assert len(found) == len(recycled)


def test_a_table_that_is_not_synthetic_is_not_tagged(versioned, private):
    assert "tags:" not in card_of(versioned(), private)


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


def test_classes_without_images_keep_their_names(versioned, recycled, tmp_path):
    """20 classes and six images: the names of the other 14 are those of the private set."""
    names = [f"species | {number}" for number in range(20)]
    named = recycled.assign(class_name=[names[label] for label in recycled["label"]])
    dataset = versioned()
    dataset.save(with_class_names(named.drop(columns="soft_label"), names))
    (train,) = opened(dataset, tmp_path).values()
    assert train.features["label"].names == names
    again = versioned()
    again.save(dataset.load().drop(columns="prompt"))  # as the next stage hands them on
    assert class_names(again.load()) == names
    text = (again._get_load_path() / "README.md").read_text(encoding="utf-8")
    assert "of 3 of 20 classes" in text
    assert r"| species \| 19 | 0 |" in text


ODD = [
    "a|b",
    "<script>alert(1)</script>",
    "`code`",
    "two\nlines",
    "=1+1",
    "$x_1$",
    "[bold]",
    "café",
    "-1",
]


def test_odd_class_names_open_as_they_are_and_leave_the_card_whole(versioned, recycled, tmp_path):
    label = np.arange(len(recycled), dtype=np.int64) % len(ODD)
    odd = recycled.assign(label=label, class_name=[ODD[number] for number in label])
    dataset = versioned()
    dataset.save(odd.drop(columns="soft_label"))
    (train,) = opened(dataset, tmp_path).values()
    assert train.features["label"].names == ODD
    assert train["class_name"][: len(ODD)] == ODD
    text = (dataset._get_load_path() / "README.md").read_text(encoding="utf-8")
    lines = text.splitlines()
    start = lines.index("| class | train |") + 2
    assert len([line for line in lines[start:] if line.startswith("| ")]) == len(ODD)
    assert all(re.fullmatch(r"\| .+ \| \d+ \|", line) for line in lines[start : start + len(ODD)])
    _, header, body = text.split("---\n", 2)
    assert yaml.safe_load(header)["pretty_name"] == "Image table"  # odd names are in it too, quoted
    assert "<script>" not in body
    assert yaml.safe_load(text.split("---")[1])["configs"]


def test_the_card_warns(versioned, recycled):
    dataset = versioned()
    dataset.save(with_warnings(recycled, [RunWarning("images", "Only 2 of 9 images | differ.")]))
    text = (dataset._get_load_path() / "README.md").read_text(encoding="utf-8")
    assert "## Warnings\n\n- Only 2 of 9 images \\| differ." in text


@pytest.mark.parametrize("change", ["pixels", "names", "rows", "soft labels", "splits"])
def test_two_sets_in_one_cache_never_answer_for_each_other(change, recycled, tmp_path, monkeypatch):
    """The library caches by the folder's name and the card; both sets lie in a folder of the same name."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    other = {
        "pixels": lambda: recycled.assign(image=recycled["image"].tolist()[::-1]),
        "names": lambda: recycled.assign(class_name=[n.upper() for n in recycled["class_name"]]),
        "rows": lambda: recycled.head(9),
        "soft labels": lambda: recycled.assign(soft_label=recycled["soft_label"].tolist()[::-1]),
        "splits": lambda: recycled.assign(split=["train"] * 20 + ["test"] * 4),
    }[change]()
    folders = [tmp_path / "a" / "recycled_set", tmp_path / "b" / "recycled_set"]
    for table, folder in zip((recycled, other), folders, strict=True):
        ImageTableDataset(filepath=str(folder)).save(table)
    for table, folder in [*zip((recycled, other), folders, strict=True), (recycled, folders[0])]:
        found = datasets.load_dataset(str(folder))
        assert {n: len(part) for n, part in found.items()} == dict(table["split"].value_counts())
        train, rows = found["train"], table[table["split"] == "train"]
        assert train["image_id"][:] == rows["image_id"].tolist()
        names = train.features["label"].names
        assert [names[label] for label in train["label"]] == rows["class_name"].tolist()
        assert np.allclose(train["soft_label"][:], np.stack(rows["soft_label"].to_list()))
        stored = train.cast_column("image", datasets.Image(decode=False))["image"]
        assert [image["bytes"] for image in stored] == rows["image"].tolist()


def test_the_same_set_has_the_same_files_and_pandas_reads_them(recycled, tmp_path):
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        ImageTableDataset(filepath=str(folder)).save(recycled)
    files = [sorted(file.name for file in (folder / "data").iterdir()) for folder in folders]
    assert files[0] == files[1]
    assert re.fullmatch(r"train-00000-of-00001-[0-9a-f]{16}\.parquet", files[0][0])
    assert (
        pd.read_parquet(folders[0] / "data")["image_id"].tolist() == recycled["image_id"].tolist()
    )


def test_a_set_of_an_earlier_version_still_loads(recycled, tmp_path):
    dataset = ImageTableDataset(filepath=str(tmp_path / "old"))
    dataset.save(recycled)
    (file,) = (tmp_path / "old/data").iterdir()
    file.rename(file.with_name("train.parquet"))
    assert dataset.load()["split"].unique().tolist() == ["train"]


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
