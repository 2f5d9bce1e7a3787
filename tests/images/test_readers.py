import gzip
import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from datasets import ClassLabel, Dataset, DatasetDict, Features
from datasets import Image as ImageFeature
from tckr.errors import UserError
from tckr.images.options import IngestionOptions
from tckr.images.readers import read


def listed(path, **options):
    table = read(path, IngestionOptions(**options))
    images = list(table.images)
    assert len(images) == table.count
    return table, images


def labels_and_splits(images):
    return [(image.label, image.split) for image in images]


def refused(path, *words, **options):
    """The one-line error of reading everything, checked to hold the words."""
    with pytest.raises(UserError) as caught:
        list(read(path, IngestionOptions(**options)).images)
    message = str(caught.value)
    assert "\n" not in message
    assert "Remedy: " in message
    for word in words:
        assert word in message
    return message


# Folders


def test_folder_per_class(tmp_path, class_folders):
    class_folders(tmp_path, {"dog": 2, "cat": 1})
    (tmp_path / "dog" / "puppies").mkdir()
    (tmp_path / "dog" / "puppies" / "deep.png").write_bytes(b"")
    (tmp_path / "dog" / ".DS_Store").write_bytes(b"")
    table, images = listed(tmp_path)
    assert table.format == "folder per class"
    assert [(image.name, image.label) for image in images] == [
        ("cat/0000.png", "cat"),
        ("dog/0000.png", "dog"),
        ("dog/0001.png", "dog"),
        ("dog/puppies/deep.png", "dog"),
    ]


def test_train_and_test_folders_are_splits(tmp_path, class_folders):
    for split in ("train", "val", "Test"):
        class_folders(tmp_path / split, {"a": 1, "b": 1})
    _, images = listed(tmp_path)
    found = {(image.name.split("/")[0], image.split) for image in images}
    assert found == {("train", "pool"), ("val", "pool"), ("Test", "test")}
    assert {image.label for image in images} == {"a", "b"}


def test_train_may_be_a_class(tmp_path, class_folders):
    class_folders(tmp_path, {"train": 1, "car": 1})
    assert {image.label for image in listed(tmp_path)[1]} == {"train", "car"}


def test_images_beside_the_class_folders_have_no_label(tmp_path, class_folders, encoded):
    class_folders(tmp_path, {"a": 1})
    (tmp_path / "stray.png").write_bytes(encoded(9))
    assert ("stray.png", None) in [(one.name, one.label) for one in listed(tmp_path)[1]]


def test_missing_empty_and_unlabelled_folders(tmp_path, encoded):
    refused(tmp_path / "nowhere", "nowhere")
    refused(tmp_path, "No image")
    (tmp_path / "a").mkdir()
    refused(tmp_path, "No image")
    (tmp_path / "x.png").write_bytes(encoded(0))
    refused(tmp_path, "Labels are missing")


def test_unknown_and_several_formats(tmp_path):
    (tmp_path / "images.zip").write_bytes(b"")
    refused(tmp_path / "images.zip", "is an archive", "unpack it", ".npz")
    for name in ("one.csv", "two.csv"):
        (tmp_path / name).write_text("path,label\nx.png,a\n")
    refused(tmp_path, "one.csv, two.csv")


# CSV


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv_of_paths_and_labels(tmp_path, separator):
    rows = [("File", "Class", "Split"), ("x/1.png", "NA", "train"), ("x/2.png", "01", "test")]
    text = "\ufeff" + "\n".join(separator.join(row) for row in rows)
    (tmp_path / "list.csv").write_text(text, encoding="utf-8")
    table, images = listed(tmp_path)
    assert table.format == "CSV of paths and labels"
    assert labels_and_splits(images) == [("NA", "pool"), ("01", "test")]
    assert images[0].content == tmp_path / "x" / "1.png"


def test_csv_with_columns_named_by_the_user(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("where,what\na.png,x\n,y\nb.png,\n")
    _, images = listed(path, image_column="where", label_column="what")
    assert [(image.content, image.label) for image in images] == [
        (tmp_path / "a.png", "x"),
        (None, "y"),
        (tmp_path / "b.png", None),
    ]
    refused(path, "no column of images", "ingestion.image_column")
    refused(path, "Labels are missing", "ingestion.label_column", image_column="where")
    refused(path, "'missing'", "where, what", image_column="missing")


@pytest.mark.parametrize("content", [b"", b"path,label\n", b"\xff\xfe\x00", b'a,b\n"1,2\n'])
def test_csv_that_is_none(tmp_path, content):
    path = tmp_path / "list.csv"
    path.write_bytes(content)
    refused(path, "list.csv")


@given(st.binary(max_size=300))
@settings(max_examples=50, deadline=None)
@pytest.mark.parametrize("suffix", [".csv", ".npz", ".parquet", ".arrow"])
def test_any_bytes_give_a_one_line_error(tmp_path_factory, suffix, content):
    path = tmp_path_factory.mktemp("any") / f"file{suffix}"
    path.write_bytes(content)
    refused(path)


# Parquet and Arrow


def test_parquet_of_bytes_structs_arrays_and_paths(tmp_path, encoded):
    png = encoded(0)
    kinds = {
        "bytes": [png, png],
        "structs": [{"bytes": png, "path": None}, {"bytes": None, "path": "a.png"}],
        "arrays": [[[1, 2], [3, 4]], [[5, 6], [7, 8]]],
        "paths": ["a.png", None],
        "ragged": [[[1], [2, 3]], [[5, 6], [7, 8]]],
    }
    found = {}
    for kind, values in kinds.items():
        path = tmp_path / f"{kind}.parquet"
        pq.write_table(pa.table({"image": values, "label": [3, None]}), path)
        _, images = listed(path)
        assert [image.label for image in images] == ["3", None]
        assert images[1].name == f"{kind}.parquet, row 1"
        found[kind] = [image.content for image in images]
    assert found["bytes"] == [png, png]
    assert found["structs"] == [png, tmp_path / "a.png"]
    assert found["arrays"][1].tolist() == [[5, 6], [7, 8]]
    assert found["paths"] == [tmp_path / "a.png", None]
    assert found["ragged"][0].size == 0


def hub_table(encoded, n=4):
    features = Features({"picture": ImageFeature(), "label": ClassLabel(names=["zebra", "ant"])})
    rows = {
        "picture": [{"bytes": encoded(seed), "path": None} for seed in range(n)],
        "label": [seed % 2 for seed in range(n)],
    }
    return Dataset.from_dict(rows, features=features)


def test_parquet_of_datasets_names_its_classes_and_finds_its_image_column(tmp_path, encoded):
    hub_table(encoded).to_parquet(tmp_path / "train-00000.parquet")
    hub_table(encoded).to_parquet(tmp_path / "test-00000.parquet")
    table, images = listed(tmp_path)
    assert table.class_names == ("zebra", "ant")
    assert labels_and_splits(images)[:2] == [("zebra", "test"), ("ant", "test")]
    assert labels_and_splits(images)[4:6] == [("zebra", "pool"), ("ant", "pool")]


def test_withheld_labels_are_missing_labels(tmp_path, encoded):
    table = hub_table(encoded).with_format("arrow")[:]
    for last, name in ((None, "x.parquet"), (9, "y.parquet")):
        labels = pa.array([0, 1, -1, last])
        pq.write_table(table.set_column(1, table.schema.field("label"), labels), tmp_path / name)
    _, images = listed(tmp_path / "x.parquet")
    assert [image.label for image in images] == ["zebra", "ant", None, None]
    refused(tmp_path / "y.parquet", "label 9", "zebra, ant")


def test_arrow_files_and_streams(tmp_path, encoded):
    table = pa.table({"image": [encoded(0)], "label": ["a"], "split": ["test"]})
    feather.write_feather(table, tmp_path / "one.feather")
    with pa.ipc.new_stream(str(tmp_path / "two.arrow"), table.schema) as stream:
        stream.write_table(table)
    for path in tmp_path.iterdir():
        read_table, images = listed(path)
        assert read_table.format == "Arrow"
        assert labels_and_splits(images) == [("a", "test")]
        assert images[0].content == encoded(0)


def test_folders_saved_by_datasets(tmp_path, encoded):
    hub_table(encoded).save_to_disk(tmp_path / "one")
    both = DatasetDict({"train": hub_table(encoded), "test": hub_table(encoded, 2)})
    both.save_to_disk(tmp_path / "two")
    one, images = listed(tmp_path / "one", image_column="picture")
    assert (one.class_names, len(images), images[0].split) == (("zebra", "ant"), 4, "pool")
    _, images = listed(tmp_path / "two")
    assert [image.split for image in images] == ["pool"] * 4 + ["test"] * 2
    assert images[5].content == encoded(1)


def test_parquet_without_labels_or_damaged(tmp_path, encoded):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"image": [encoded(0)], "notes": ["a"]}), path)
    refused(path, "Labels are missing", "image, notes")
    path.write_bytes(path.read_bytes()[:-20])
    refused(path, "x.parquet", "damaged")
    pq.write_table(
        pa.table({"image": pa.array([], pa.binary()), "label": pa.array([], "str")}), path
    )
    refused(path, "holds no images")


# npz


def medmnist(path, n=6, shape=(8, 8, 3), **changes):
    rng = np.random.default_rng(0)
    arrays = {}
    for split in ("train", "val", "test"):
        arrays[f"{split}_images"] = rng.integers(0, 256, (n, *shape), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(n) % 2).reshape(-1, 1)
    arrays = {key: value for key, value in {**arrays, **changes}.items() if value is not None}
    np.savez_compressed(path, **arrays)
    return arrays


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 3)])
def test_npz_of_medmnist(tmp_path, shape):
    arrays = medmnist(tmp_path / "m.npz", shape=shape)
    table, images = listed(tmp_path)
    assert table.format == "npz"
    assert [image.split for image in images] == ["pool"] * 12 + ["test"] * 6
    assert [image.label for image in images[:3]] == ["0", "1", "0"]
    assert (images[13].content == arrays["test_images"][1]).all()


def test_npz_in_fortran_order_and_with_other_names(tmp_path):
    pixels = np.asfortranarray(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
    np.savez(tmp_path / "k.npz", x_train=pixels, y_train=np.array([1.0, 0.0]))
    _, images = listed(tmp_path / "k.npz")
    assert [image.label for image in images] == ["1", "0"]
    assert (images[1].content == pixels[1]).all()


def test_npz_that_cannot_be_used(tmp_path):
    path = tmp_path / "m.npz"
    np.savez(path, other=np.zeros(3))
    refused(path, "no images", "other")
    medmnist(path, val_labels=None)
    refused(path, "Labels are missing", "val_labels")
    medmnist(path, train_labels=np.zeros((6, 14)))
    refused(path, "several labels")
    medmnist(path, train_labels=np.zeros(5))
    refused(path, "6 rows", "5")
    medmnist(path, train_images=np.array([{}] * 6, dtype=object))
    refused(path, "train_images", "no array of numbers")
    medmnist(path)
    path.write_bytes(path.read_bytes()[:-100])
    refused(path, "damaged")


def test_npz_whose_header_lies(tmp_path):
    medmnist(tmp_path / "large.npz", shape=(9, 9))
    refused(tmp_path / "large.npz", "81 pixels", "max_pixels", max_pixels=64)
    header = io.BytesIO()
    shape = {"descr": "|u1", "fortran_order": False, "shape": (10**12, 4, 4)}
    np.lib.format.write_array_header_1_0(header, shape)
    with zipfile.ZipFile(tmp_path / "short.npz", "w") as archive:
        archive.writestr("images.npy", header.getvalue())
        archive.writestr("labels.npy", header.getvalue())
    refused(tmp_path / "short.npz", "shorter than its header says")


# IDX


def idx(folder, split, n=4, size=(5, 3), magic=(0x803, 0x801), n_labels=None, opener=gzip.open):
    suffix = ".gz" if opener is gzip.open else ""
    pixels = np.arange(n * size[0] * size[1], dtype=np.uint8)
    with opener(folder / f"{split}-images-idx3-ubyte{suffix}", "wb") as stream:
        stream.write(struct.pack(">IIII", magic[0], n, *size) + pixels.tobytes())
    n_labels = n if n_labels is None else n_labels
    with opener(folder / f"{split}-labels-idx1-ubyte{suffix}", "wb") as stream:
        stream.write(struct.pack(">II", magic[1], n_labels) + bytes(i % 2 for i in range(n_labels)))


@pytest.mark.parametrize("opener", [gzip.open, open])
def test_idx(tmp_path, opener):
    idx(tmp_path, "train", opener=opener)
    idx(tmp_path, "t10k", n=2, opener=opener)
    table, images = listed(tmp_path)
    assert table.format == "IDX"
    assert [image.split for image in images] == ["test"] * 2 + ["pool"] * 4
    assert images[3].label == "1"
    assert images[3].content.tolist() == np.arange(15, 30).reshape(5, 3).tolist()


def test_idx_that_cannot_be_used(tmp_path):
    idx(tmp_path, "train", magic=(0x801, 0x801))
    refused(tmp_path, "train-images", "no IDX file")
    idx(tmp_path, "train", n_labels=3)
    refused(tmp_path, "4 images", "3 labels")
    idx(tmp_path, "train")
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-12])
    refused(tmp_path, path.name, "truncated")
    path.write_bytes(gzip.compress(struct.pack(">IIII", 0x803, 4, 30_000, 20_000) + bytes(50)))
    refused(tmp_path, path.name, "600,000,000 pixels", "max_pixels")
    refused(tmp_path, "would expand", "2,400,000,000", max_pixels=10**9)
    path.write_bytes(gzip.compress(struct.pack(">IIII", 0x803, 4, 300, 200) + bytes(50)))
    refused(tmp_path, "truncated", "0 of 4")
    (tmp_path / "train-labels-idx1-ubyte.gz").unlink()
    refused(tmp_path, "Labels are missing", "train-labels-idx1-ubyte.gz")


def test_the_default_set_is_read_as_it_is_described():
    root = Path(__file__).parents[2]
    table = pd.read_parquet(root / "data/01_raw/fashion_mnist/fashion_mnist_sample.parquet")
    assert table["image"].map(lambda image: image["bytes"]).is_unique
    assert table.groupby(["split", "label"]).size().unstack().to_dict("index") == {
        "train": dict.fromkeys(table["label"].unique(), 650),
        "test": dict.fromkeys(table["label"].unique(), 200),
    }
    first = Image.open(io.BytesIO(table["image"].iloc[0]["bytes"]))
    assert (first.mode, first.size) == ("L", (28, 28))
