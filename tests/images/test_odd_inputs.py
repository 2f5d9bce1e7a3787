"""Further inputs of the reported kinds: each comes in with the classes of its pixels, or is refused in one line.

Every image is noise with a bright bar whose row tells its class.
"""

import io
import json
import logging
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tckr.errors import UserError
from tckr.images.ingest import ingest
from tckr.images.labels import group_name
from tckr.images.options import IngestionOptions

SIDE, N = 16, 24
KINDS = [i % 2 for i in range(2 * N)]
NAMES = ("ant", "bee")


def array(k: int, i: int) -> np.ndarray:
    pixels = np.random.default_rng([k, i]).integers(0, 85, (SIDE, SIDE)).astype(np.uint8)
    pixels[2 * k + 2] = 255
    return pixels


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(k: int, i: int) -> bytes:
    return encoded(Image.fromarray(array(k, i)))


def fill(folder: Path, k: int, make=png, suffix: str = "png", start: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(start, start + N):
        (folder / f"{i}.{suffix}").write_bytes(make(k, i))


def folders(root: Path, make=png, suffix: str = "png") -> Path:
    for k, name in enumerate(NAMES):
        fill(root / name, k, make, suffix)
    return root


def table(root: Path, labels, **columns) -> Path:
    images = [png(k, i) for i, k in enumerate(KINDS)]
    pq.write_table(pa.table({"image": images, "label": labels, **columns}), root / "t.parquet")
    return root / "t.parquet"


def listing(root: Path, content: bytes, name: str = "list.csv") -> Path:
    for i, k in enumerate(KINDS):
        (root / f"{i}.png").write_bytes(png(k, i))
    (root / name).write_bytes(content)
    return root / name


def csv(header: str, line) -> str:
    return header + "".join(line(i, NAMES[k]) for i, k in enumerate(KINDS))


def archive(root: Path, labels: np.ndarray) -> Path:
    images = np.stack([array(k, i) for i, k in enumerate(KINDS)])
    np.savez(root / "set.npz", images=images, labels=labels)
    return root / "set.npz"


def read_right(path: Path, classes: list[str], **options) -> tuple[pd.DataFrame, dict]:
    """Ingest, and hold every label against the pixels of its image."""
    found, report = ingest(path, IngestionOptions(size=SIDE, **options), 0)
    assert report["classes"] == classes
    for label, content in zip(found["label"], found["image"], strict=True):
        pixels = np.asarray(Image.open(io.BytesIO(content)).convert("L"))
        assert np.argmax(pixels.mean(1)) == 2 * label + 2
        assert pixels.max() > 200
        assert pixels.mean() < 100
    return found, report


def refused(path: Path, *words: str, **options) -> None:
    with pytest.raises(UserError) as caught:
        ingest(path, IngestionOptions(size=SIDE, **options), 0)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def white_is_zero(k: int, i: int, bits: int = 16) -> bytes:
    """A TIFF of unsigned values in which 0 is white."""
    values = array(k, i).astype(np.int64) * (257 if bits == 16 else 1)
    data = (2**bits - 1 - values).astype("<u2" if bits == 16 else "u1").tobytes()
    short = {256: SIDE, 257: SIDE, 258: bits, 259: 1, 262: 0, 277: 1, 278: SIDE}
    long = {273: 8, 279: len(data)}
    tags = b"".join(
        struct.pack("<HHIHH", tag, 3, 1, short[tag], 0)
        if tag in short
        else struct.pack("<HHII", tag, 4, 1, long[tag])
        for tag in sorted((*short, *long))
    )
    head = b"II*\0" + struct.pack("<I", 8 + len(data))
    return head + data + struct.pack("<H", len(short) + len(long)) + tags + bytes(4)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiff_in_which_white_is_zero_is_not_read_as_a_negative(tmp_path, bits):
    folders(tmp_path, lambda k, i: white_is_zero(k, i, bits), "tif")
    read_right(tmp_path, ["ant", "bee"])


def test_the_preview_that_is_a_tiffs_first_page_does_not_stand_for_the_image(tmp_path):
    def make(k, i):
        image = Image.fromarray(array(k, i))
        return encoded(image.resize((4, 4)), "TIFF", save_all=True, append_images=[image])

    refused(folders(tmp_path, make, "tif"), "page 2 is larger than its first")


def test_the_first_of_equal_pages_or_frames_is_the_image(tmp_path):
    for kind, suffix in (("TIFF", "tif"), ("GIF", "gif"), ("PNG", "png")):

        def make(k, i, kind=kind):
            more = [Image.fromarray(array(1 - k, i + 900))]
            return encoded(Image.fromarray(array(k, i)), kind, save_all=True, append_images=more)

        (tmp_path / suffix).mkdir()
        read_right(folders(tmp_path / suffix, make, suffix), ["ant", "bee"])


@pytest.mark.parametrize(("kind", "suffix"), [("TIFF", "tif"), ("JPEG", "jpg"), ("PNG", "png")])
def test_an_image_is_turned_as_its_header_says(tmp_path, kind, suffix):
    exif = Image.Exif()
    exif[0x112] = 6

    def make(k, i):
        return encoded(Image.fromarray(np.rot90(array(k, i)).copy()), kind, exif=exif)

    read_right(folders(tmp_path, make, suffix), ["ant", "bee"])


def test_pixels_that_are_no_numbers_are_called_so(tmp_path):
    def make(k, i):
        values = array(k, i).astype(np.float32) / 255
        values[0, 0] = np.nan
        return encoded(Image.fromarray(values), "TIFF")

    refused(folders(tmp_path, make, "tif"), "no numbers (NaN or infinite)")


def test_a_link_to_itself_or_to_nothing_is_named(tmp_path):
    folders(tmp_path)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "cat").symlink_to(tmp_path.parent / "not mounted")
    _, report = read_right(tmp_path, ["ant", "bee"])
    assert report["left_out"] == [
        "cat, a link that leads nowhere",
        "loop, a link that leads nowhere",
    ]


def test_masks_beside_images_are_no_images(tmp_path):
    """The layout of the breast ultrasound images BUSI."""
    folders(tmp_path)
    for k, name in enumerate(NAMES):
        for i in range(N):
            mask = Image.fromarray((array(k, i) > 200).astype(np.uint8) * 255)
            mask.save(tmp_path / name / f"{i}_mask{'_1' if i % 5 == 0 else ''}.png")
    found, report = read_right(tmp_path, ["ant", "bee"])
    assert len(found) == 2 * N
    assert report["left_out"] == [f"masks of other images: {2 * N} (the first is 0_mask_1.png)"]


def test_classes_called_mask_are_classes(tmp_path):
    fill(tmp_path / "mask", 0)
    fill(tmp_path / "no_mask", 1)
    read_right(tmp_path, ["mask", "no_mask"])


def test_a_class_that_is_small_since_another_has_its_name_is_told_so(tmp_path):
    for split, names, start in (("train", ("Ant", "Bee"), 0), ("test", ("ant", "bee"), 500)):
        for k, name in enumerate(names):
            fill(tmp_path / split / name, k, start=start)
    refused(tmp_path, "'Ant' beside 'ant'")


def test_marks_that_nobody_sees_make_no_class(tmp_path):
    labels = [f"{NAMES[k]}\u200b" if i % 4 == k else NAMES[k] for i, k in enumerate(KINDS)]
    read_right(table(tmp_path, labels), ["ant", "bee"])


def test_numbers_with_and_without_zeros_are_pointed_out(tmp_path, caplog):
    labels = [("01" if i % 4 == 1 else "1") if k else "0" for i, k in enumerate(KINDS)]
    with caplog.at_level(logging.WARNING):
        ingest(table(tmp_path, labels), IngestionOptions(size=SIDE), 0)
    assert "The classes '1' and '01' differ only in case or zeros" in caplog.text


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([float("inf") if k else 0.0 for k in KINDS], "label inf"),
        ([{"ant": 1 - k, "bee": k} for k in KINDS], "several labels"),
        (pa.nulls(2 * N), "Labels are missing"),
    ],
)
def test_labels_that_are_no_class_are_refused(tmp_path, labels, words):
    refused(table(tmp_path, labels), words)


def test_two_label_columns_of_one_name_are_refused(tmp_path):
    images = pa.array([png(k, i) for i, k in enumerate(KINDS)])
    turned = pa.array([1 - k for k in KINDS])
    for names in (["image", "label", "label"], ["image", "label", "Label"]):
        twice = pa.Table.from_arrays([images, pa.array(KINDS), turned], names=names)
        pq.write_table(twice, tmp_path / "t.parquet")
        refused(tmp_path / "t.parquet", "2 columns called 'label'")
    text = csv("path,label,label\n", lambda i, name: f"{i}.png,{name},other\n")
    refused(listing(tmp_path, text.encode()), "2 columns called 'label'")


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.array(["2020-01-01", "2020-01-02"], "datetime64[ns]")[KINDS], "2020-01-0"),
        (np.array(KINDS, bool), None),
        (np.array(KINDS, ">i4"), None),
    ],
)
def test_labels_of_odd_types_in_npz(tmp_path, labels, classes):
    report = ingest(archive(tmp_path, labels), IngestionOptions(size=SIDE), 0)[1]
    assert len(report["classes"]) == 2
    assert classes is None or all(name.startswith(classes) for name in report["classes"])


def test_structured_labels_in_npz_are_refused(tmp_path):
    pairs = np.array([(k, 0) for k in KINDS], [("a", int), ("b", int)])
    refused(archive(tmp_path, pairs), "several labels")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_lists_in_other_encodings_and_with_other_separators(tmp_path, encoding, separator):
    text = csv(f"path{separator}label\n", lambda i, name: f"{i}.png{separator}{name}\n")
    read_right(listing(tmp_path, text.encode(encoding)), ["ant", "bee"])


def test_whole_numbers_with_a_decimal_comma(tmp_path):
    text = csv("path;label\n", lambda i, name: f"{i}.png;{NAMES.index(name)},0\n")
    read_right(listing(tmp_path, text.encode()), ["0", "1"])


@pytest.mark.parametrize("sign", ["\u2028", "\u0085", "\x0b", "\x1c"])
def test_signs_that_unicode_calls_line_ends_end_no_row(tmp_path, sign):
    text = csv("path,label\n", lambda i, name: f"{i}.png,{name}{sign}x\n")
    read_right(listing(tmp_path, text.encode()), ["ant x", "bee x"])
    lines = [
        json.dumps({"file_name": f"{i}.png", "label": f"{NAMES[k]}{sign}x"}, ensure_ascii=False)
        for i, k in enumerate(KINDS)
    ]
    (tmp_path / "list.csv").unlink()
    path = listing(tmp_path, "\n".join(lines).encode(), "metadata.jsonl")
    read_right(path, ["ant x", "bee x"])


def test_nested_labels_in_jsonl_are_refused(tmp_path):
    lines = [
        json.dumps({"file_name": f"{i}.png", "label": {"name": NAMES[k]}})
        for i, k in enumerate(KINDS)
    ]
    refused(listing(tmp_path, "\n".join(lines).encode(), "metadata.jsonl"), "several labels")


@pytest.mark.parametrize("value", [7, 7.0, "7", " 7 ", b"7", "7.0", np.float32(7), np.int64(7)])
def test_a_person_has_one_name_whatever_the_type_of_its_column(value):
    assert group_name(value, "") == "7"


def test_people_of_two_files_are_the_same_though_one_column_has_gaps(tmp_path):
    """With gaps, pandas turns whole numbers into floats: 7 in one file and 7.0 in the other."""
    patients = [i // 4 for i in range(2 * N)]
    with_gap: list[float | None] = [float(number) for number in patients]
    with_gap[0] = None
    for name, start, column in (("a", 0, patients), ("b", 500, with_gap)):
        images = [png(k, i + start) for i, k in enumerate(KINDS)]
        labels = [NAMES[k] for k in KINDS]
        rows = pa.table({"image": images, "label": labels, "patient": column})
        pq.write_table(rows, tmp_path / f"{name}.parquet")
    found, _ = read_right(tmp_path, ["ant", "bee"], group_column="patient")
    assert found.groupby("group")["split"].nunique().max() == 1
    assert found["group"].nunique() <= 13  # 12 people, and one image of nobody
    assert found.groupby("group").size().max() == 8


def test_groups_that_are_missing_are_told(tmp_path, caplog):
    labels = [NAMES[k] for k in KINDS]
    nobody = table(tmp_path, labels, patient=pa.nulls(2 * N, pa.string()))
    refused(nobody, "No image has a group", group_column="patient")
    some = [None if i < 5 else str(i // 4) for i in range(2 * N)]
    with caplog.at_level(logging.WARNING):
        read_right(table(tmp_path, labels, patient=some), ["ant", "bee"], group_column="patient")
    assert "5 of 48 images have no group" in caplog.text
