import io
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tckr.errors import UserError
from tckr.images.ingest import ingest
from tckr.images.options import IngestionOptions
from tckr.images.report import data_hash, sentence
from tckr.images.tensors import to_tensor

DEFAULT_SET = Path(__file__).parents[2] / "data/01_raw/fashion_mnist/fashion_mnist_sample.parquet"


def taken(path, seed=0, **options):
    return ingest(path, IngestionOptions(**{"size": 16, **options}), seed)


def refused(path, *words, **options):
    with pytest.raises(UserError) as caught:
        taken(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert "Remedy: " in message
    for word in words:
        assert word in message, message


def test_the_default_set_gives_the_default_splits():
    table, report = ingest(DEFAULT_SET, IngestionOptions(), seed=0)
    counts = table.groupby(["split", "class_name"]).size().unstack()
    assert report["splits"] == {"members": 3000, "holdout": 3000, "validation": 500, "test": 2000}
    for split, total in report["splits"].items():
        assert (counts.loc[split] == total // 10).all()
    columns = ["image_id", "split", "label", "class_name", "canary", "image"]
    assert list(table.columns) == columns
    assert not table["canary"].any()
    assert report["canaries"]["total"] == 0
    assert table["image_id"].is_unique
    assert table["label"].dtype == np.int64
    assert to_tensor(table["image"].head(50)).shape == (50, 1, 32, 32)
    assert report["duplicates"]["removed"] == report["skipped"] == report["unused"] == 0


def test_colour_jpegs_of_odd_sizes_with_ten_broken_files(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("bike", "bus", "car", "ship"):
        (tmp_path / name).mkdir()
        for index in range(60):
            height, width = rng.integers(5, 90, 2)
            pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{index}.jpg")
    for index in range(5):
        whole = (tmp_path / "car" / f"{index}.jpg").read_bytes()
        (tmp_path / "car" / f"{index}.jpg").write_bytes(whole[: len(whole) // 2])
        (tmp_path / "bus" / f"{index}.jpg").write_text("no image")
    table, report = taken(tmp_path, licence="CC0-1.0")
    assert report["skipped"] == 10
    names = {bad["name"] for bad in report["skipped_images"]}
    assert names == {f"{name}/{index}.jpg" for name in ("car", "bus") for index in range(5)}
    assert report["read"] == 240
    assert report["images"] == len(table) == 230
    assert to_tensor(table["image"]).shape == (230, 3, 16, 16)
    assert report["channels"] == 3
    assert report["licence"] == "CC0-1.0"
    assert sum(report["original_sizes"].values()) + report["other_original_sizes"] == 230
    assert json.loads(json.dumps(report)) == report
    refused(tmp_path, "bus/0.jpg", "not an image", strict=True)


def test_canaries_have_wrong_labels_and_their_own_content(tmp_path, class_folders):
    class_folders(tmp_path, {"a": 60, "b": 60, "c": 60})
    plain, plain_report = taken(tmp_path)
    table, report = taken(tmp_path, canaries=20)
    assert report["canaries"]["total"] == table["canary"].sum() == 20
    assert "wrong on purpose" in report["canaries"]["note"]
    assert report["data_hash"] != plain_report["data_hash"]
    for column in ("image_id", "split", "image"):
        pd.testing.assert_series_equal(table[column], plain[column])
    assert ((table["class_name"] != plain["class_name"]) == table["canary"]).all()
    assert json.loads(json.dumps(report)) == report
    refused(tmp_path, "ingestion.canaries", "fewer than half", canaries=100)


@pytest.mark.parametrize("near_duplicates", ["keep", "drop"])
def test_duplicated_canaries_outlive_the_search_for_duplicates(
    tmp_path, class_folders, near_duplicates
):
    """Copies are planted after equal images are left out, and count as images but not as duplicates of the source."""
    class_folders(tmp_path, {"a": 60, "b": 60})
    plain, plain_report = taken(tmp_path, near_duplicates=near_duplicates)
    planted = {"mislabelled": 6, "duplicated": 4, "copies": 5}
    table, report = taken(tmp_path, near_duplicates=near_duplicates, canaries=planted)
    assert len(table) == report["images"] == len(plain) + 2 * 4 * (5 - 1)
    assert report["splits"]["members"] == plain_report["splits"]["members"] + 16
    for key in ("read", "duplicates", "unused", "near_duplicates", "groups"):
        assert report[key] == plain_report[key]
    for _, copies in table[table["copy"] > 0].groupby("group"):
        assert len(copies) == 5
        assert copies["image"].nunique() == copies["split"].nunique() == 1
    assert table["canary"].sum() == report["canaries"]["total"] == 6
    assert report["canaries"]["duplicated"]["added"] == 32
    assert "4 holdout images are canaries of 5 copies each (32 of the" in sentence(report)
    assert json.loads(json.dumps(report)) == report
    refused(tmp_path, "ingestion.canaries", "ask for at most", canaries={"duplicated": 40})


def test_a_plain_number_of_canaries_means_mislabelled_ones():
    assert IngestionOptions(canaries=3) == IngestionOptions(canaries={"mislabelled": 3})
    for wrong in (True, {"duplicated": -1}, {"copies": 1}, {"doubled": 3}):
        with pytest.raises(ValueError, match="canaries"):
            IngestionOptions(canaries=wrong)


def test_names_and_order_of_files_do_not_move_the_splits(tmp_path, class_folders):
    first = class_folders(tmp_path / "first", {"a": 20, "b": 30})
    second = tmp_path / "second"
    shutil.copytree(first, second)
    for file in sorted(second.rglob("*.png")):
        file.rename(file.with_name(f"{99 - int(file.stem)}.png"))
    one, report = taken(first)
    other, other_report = taken(second)
    pd.testing.assert_frame_equal(one, other)
    assert report["data_hash"] == other_report["data_hash"]
    assert taken(first, seed=1)[1]["data_hash"] != report["data_hash"]


def test_exact_duplicates_go_and_the_test_split_wins(tmp_path, class_folders, encoded):
    class_folders(tmp_path / "train", {"a": 20, "b": 20})
    class_folders(tmp_path / "test", {"a": 5, "b": 5}, first_seed=100)
    leaked = encoded(100)
    (tmp_path / "train" / "a" / "leak.png").write_bytes(leaked)
    (tmp_path / "train" / "a" / "again.bmp").write_bytes(encoded(0, file_format="BMP"))
    (tmp_path / "test" / "a" / "again.png").write_bytes(leaked)
    table, report = taken(tmp_path, validation=4)
    assert report["duplicates"] == {
        "removed": 3,
        "within_pool": 1,
        "within_test": 1,
        "across_pool_and_test": 1,
        "with_conflicting_labels": 0,
    }
    assert report["splits"] == {"members": 18, "holdout": 18, "validation": 4, "test": 10}
    assert table["image_id"].is_unique


def test_mixed_modes_are_converted_and_counted(tmp_path, class_folders, encoded):
    class_folders(tmp_path, {"a": 10, "b": 10})
    (tmp_path / "a" / "colour.png").write_bytes(encoded(50, channels=3))
    (tmp_path / "b" / "clear.png").write_bytes(encoded(51, channels=4))
    table, report = taken(tmp_path, validation=4)
    assert report["original_modes"] == {"L": 20, "RGB": 1, "RGBA": 1}
    modes = {Image.open(io.BytesIO(content)).mode for content in table["image"]}
    assert modes == {"RGB"}
    assert taken(tmp_path, validation=4, channels="grey")[1]["channels"] == 1


def test_the_first_of_several_pages_is_taken_and_that_is_said(tmp_path, class_folders):
    class_folders(tmp_path, {"a": 10, "b": 10})
    pages = [Image.new("L", (16, 16), grey) for grey in (40, 200)]
    pages[0].save(tmp_path / "a" / "scan.tiff", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "b" / "one.tiff")
    report = taken(tmp_path, validation=4)[1]
    assert report["original_modes"]["L (first of several pages)"] == 1


def test_counts_leave_images_over(tmp_path, class_folders):
    class_folders(tmp_path, {"a": 40, "b": 20})
    table, report = taken(tmp_path, members=12, holdout=6, validation=6, test=0.1)
    assert report["splits"] == {"members": 12, "holdout": 6, "validation": 6, "test": 6}
    assert report["counts"]["members"] == {"a": 8, "b": 4}
    assert report["unused"] == 60 - len(table) == 30


def test_classes_keep_their_numbers_and_get_names(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    labels = np.tile([2, 10, 11], 20)
    np.savez(tmp_path / "x.npz", train_images=images, train_labels=labels)
    assert taken(tmp_path)[1]["classes"] == ["2", "10", "11"]
    names = tuple(f"class {number}" for number in range(12))
    table, report = taken(tmp_path, class_names=names)
    assert report["classes"] == ["class 2", "class 10", "class 11"]
    pairs = table.groupby("label")["class_name"].unique().explode().to_dict()
    assert pairs == {0: "class 2", 1: "class 10", 2: "class 11"}
    refused(tmp_path, "class_names", "'10'", class_names=names[:5])


def test_the_data_hash_is_that_of_the_content():
    table = pd.DataFrame({"image_id": ["x", "y"], "split": ["a", "b"], "class_name": ["c", "d"]})
    assert data_hash(table) == data_hash(table.iloc[::-1])
    assert data_hash(table) != data_hash(table.assign(class_name=["d", "c"]))


# Bad input: one line that names what is wrong and the remedy


def test_a_single_class(tmp_path, class_folders):
    refused(class_folders(tmp_path, {"a": 20}), "single class (a)", tmp_path.name)


def test_a_class_with_fewer_images_than_splits(tmp_path, class_folders):
    refused(class_folders(tmp_path, {"a": 60, "few": 3}), "'few'", "3 images", "raise ingestion.")


def test_a_test_split_without_one_of_the_classes(tmp_path, class_folders):
    class_folders(tmp_path / "train", {"a": 20, "b": 20})
    class_folders(tmp_path / "test", {"a": 5}, first_seed=90)
    refused(tmp_path, "'b'", "test would get none")


def test_more_images_wanted_than_there_are(tmp_path, class_folders):
    class_folders(tmp_path, {"a": 20, "b": 20})
    refused(tmp_path, "3000 members", "only 32", members=3000)
    refused(tmp_path, "asks for 2000", "only 40", test=2000)


def test_labels_missing_for_some_and_for_all(tmp_path, class_folders, encoded):
    class_folders(tmp_path, {"a": 20, "b": 20})
    lines = [f"{name}/{index:04}.png,{name}" for name in "ab" for index in range(20)]
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *lines[:-1], "b/0019.png,"]))
    _, report = taken(tmp_path / "list.csv")
    assert report["skipped_images"] == [{"name": "b/0019.png", "reason": "no label"}]
    (tmp_path / "list.csv").write_text("path,label\na/0000.png,\nb/0000.png,\n")
    refused(tmp_path / "list.csv", "Labels are missing", "2 images")


def test_a_600_megapixel_image_is_skipped_undecoded(tmp_path, class_folders, forged_png):
    class_folders(tmp_path, {"a": 20, "b": 20})
    (tmp_path / "a" / "huge.png").write_bytes(forged_png)
    (bad,) = taken(tmp_path)[1]["skipped_images"]
    assert bad["name"] == "a/huge.png"
    assert "too large" in bad["reason"]
    refused(tmp_path, "a/huge.png", "600000000", strict=True)


def test_mostly_broken(tmp_path, class_folders):
    class_folders(tmp_path, {"a": 4, "b": 4})
    for index in range(9):
        (tmp_path / "a" / f"broken{index}.png").write_text("no image")
    refused(tmp_path, "9 of 17", "a/broken0.png: not an image")


def test_shares_out_of_range_and_unknown_keys():
    for wrong in (
        {"members": 0},
        {"holdout": 1.5},
        {"test": -0.1},
        {"size": 4},
        {"canaries": -1},
        {"sizes": 32},
        {"class_names": ("a", "a")},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            IngestionOptions(**wrong)


def test_images_are_in_a_scratch_file_and_not_in_memory(
    tmp_path, class_folders, encoded, monkeypatch
):
    monkeypatch.setenv("TCKR_SCRATCH", str(tmp_path / "scratch"))
    source = class_folders(tmp_path / "source", {"a": 90, "b": 90})
    table, _ = taken(source)
    assert table["image"].dtype == "encoded image"
    assert len(set(table["image"])) == 180
    assert list((tmp_path / "scratch").iterdir()) == []  # the file has no name
    (source / "b" / "colour.png").write_bytes(encoded(500, channels=3))
    coloured, report = taken(source)
    assert report["channels"] == 3
    again, _ = taken(source, channels="colour")
    assert coloured["image"].tolist() == again["image"].tolist()
