"""A column of references behaves as the same column of bytes, wherever its images lie."""

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tckr.datasets import image_table
from tckr.datasets.image_table import ImageTableDataset
from tckr.engine import mapped
from tckr.errors import UserError
from tckr.images.encoded import EncodedImages
from tckr.images.stores import Heap, ParquetImages
from tckr.images.tensors import to_png, to_tensor


def contents(count: int, start: int = 0) -> list[bytes]:
    return [f"image {number}".encode() * (1 + number % 5) for number in range(start, start + count)]


def table(images: list[bytes] | EncodedImages) -> pd.DataFrame:
    labels = [len(image) % 2 for image in images]
    names = [("ant", "bee")[label] for label in labels]
    return pd.DataFrame({"image": images, "split": "train", "label": labels, "class_name": names})


@pytest.fixture(autouse=True)
def _small_row_groups(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(image_table, "GROUP_ROWS", 7)
    monkeypatch.setenv("TCKR_SCRATCH", str(tmp_path / "scratch"))


def saved(folder: Path, images: list[bytes]) -> EncodedImages:
    dataset = ImageTableDataset(filepath=str(folder))
    dataset.save(table(images))
    return dataset.load()["image"].array


def heaped(images: list[bytes]) -> EncodedImages:
    heap = Heap()
    for image in images:
        heap.append(image)
    return EncodedImages.of(heap, len(images))


@pytest.fixture
def mixed(tmp_path: Path) -> EncodedImages:
    """More rows than a row group, in two files, in a heap and in memory."""
    parts = [
        saved(tmp_path / "first", contents(20)),
        EncodedImages.held(contents(5, 20)),
        heaped(contents(9, 25)),
        saved(tmp_path / "second", contents(16, 34)),
    ]
    return pd.concat([pd.Series(part) for part in parts], ignore_index=True).array


COUNT = 50
selections = st.one_of(
    st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=70).map(np.array),
    st.lists(st.booleans(), min_size=COUNT, max_size=COUNT).map(np.array).filter(np.any),
    st.slices(COUNT).filter(lambda part: len(range(COUNT)[part]) > 0),
)


@given(selections, selections)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
def test_whatever_is_selected_comes_back_from_a_file(mixed, tmp_path, first, second) -> None:
    images = np.array(contents(COUNT), dtype=object)
    chosen = pd.concat([table(mixed[first]), table(mixed[second])], ignore_index=True)
    expected = [*images[first], *images[second]]
    assert chosen["image"].dtype == "encoded image"
    assert chosen["image"].tolist() == expected
    dataset = ImageTableDataset(filepath=str(tmp_path / "table"))
    dataset.save(chosen)
    back = dataset.load()
    assert back["image"].tolist() == expected
    assert back["class_name"].tolist() == chosen["class_name"].tolist()
    sorted_back = back.sort_values("label", kind="stable")
    assert (sorted_back["image"] == chosen.sort_values("label", kind="stable")["image"]).all()


def test_equal_tables_give_equal_files(mixed, tmp_path) -> None:
    files = []
    for name, images in {"mixed": mixed, "held": contents(COUNT)}.items():
        ImageTableDataset(filepath=str(tmp_path / name)).save(table(images))
        (file,) = (tmp_path / name / "data").iterdir()
        files.append((file.name, file.read_bytes()))
    assert files[0] == files[1]


def test_a_column_is_pickled_as_paths_and_needs_no_images(tmp_path) -> None:
    column = saved(tmp_path / "table", [bytes(5000)] * 30)
    pickled = pickle.dumps(pd.Series(column))
    assert len(pickled) < 5000
    assert pickle.loads(pickled).tolist() == [bytes(5000)] * 30


def test_what_has_no_path_is_pickled_as_the_images_in_use(mixed) -> None:
    some = mixed[[3, 30, 21, 30]]
    assert pickle.loads(pickle.dumps(some)).tolist() == some.tolist()
    assert len(pickle.dumps(some)) < len(pickle.dumps(mixed))


def test_a_changed_file_is_not_mistaken_for_the_old_one(tmp_path) -> None:
    column = saved(tmp_path / "table", contents(10))
    pickled = pickle.dumps(column)
    saved(tmp_path / "table", contents(10, start=90))
    assert column.tolist() == contents(10)  # the file it has open
    with pytest.raises(UserError, match="was changed"):
        pickle.loads(pickled)


def test_missing_images_and_single_ones(mixed) -> None:
    series = pd.Series(mixed, copy=True)  # pandas 2 would share it
    assert series.iloc[-1] == contents(1, 49)[0]
    longer = series.reindex(range(52))
    assert longer.isna().sum() == 2
    assert longer.iloc[50] is None
    series.iloc[2] = b"other"
    assert series.iloc[2] == b"other"
    assert mixed[2] == contents(1, 2)[0]  # where it came from is not changed
    series[series.index < 2] = [b"x", b"y"]
    assert series.head(3).tolist() == [b"x", b"y", b"other"]
    with pytest.raises(TypeError, match="bytes"):
        EncodedImages.held([b"fine", "text"])
    with pytest.raises(IndexError):
        mixed[COUNT]


def test_reading_all_in_turn_holds_few(tmp_path, monkeypatch) -> None:
    column = saved(tmp_path / "table", contents(70))
    read: list[int] = []
    original = ParquetImages.read_group
    monkeypatch.setattr(
        ParquetImages, "read_group", lambda self, group: read.append(group) or original(self, group)
    )
    assert list(column) == contents(70)
    assert read == list(range(10))  # every row group once


def test_files_written_before_are_read(tmp_path) -> None:
    """One row group of compressed images."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "old/data").mkdir(parents=True)
    images = [{"bytes": image, "path": None} for image in contents(12)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {"image": pa.array(images, kind), "label": [0] * 12, "class_name": ["ant"] * 12}
    pq.write_table(pa.table(columns), tmp_path / "old/data/train.parquet", compression="zstd")
    back = ImageTableDataset(filepath=str(tmp_path / "old")).load()
    assert back["image"].tolist() == contents(12)


@pytest.mark.parametrize("share", [0.25, 0.0], ids=["memory", "disk"])
def test_pixels_are_the_same_in_memory_and_on_disk(tmp_path, monkeypatch, share) -> None:
    monkeypatch.setattr(mapped, "SHARE", share)
    pixels = torch.randint(0, 256, (300, 3, 8, 8), dtype=torch.uint8)
    column = pd.Series(saved(tmp_path / "table", to_png(pixels))).sample(frac=1, random_state=0)
    decoded = to_tensor(column)
    assert torch.equal(decoded, pixels[column.index.to_numpy(copy=True)])
    decoded += 1  # an ordinary tensor
    assert torch.equal(to_tensor(column), pixels[column.index.to_numpy(copy=True)])
    places = list((tmp_path / "scratch").rglob("*"))
    assert places == []
    if not share:
        assert (tmp_path / "scratch").stat().st_mode & 0o777 == 0o700


def test_a_full_disk_is_said_before_anything_is_decoded(monkeypatch) -> None:
    with pytest.raises(UserError, match="no room"):
        mapped.mapped_array((1 << 60,), np.uint8)
