"""Layouts and files that people reported of other tools: each comes in right, or is refused in one line.

Every image is noise with a bright bar whose row tells its class, so that labels are checked against the pixels.
"""

import gzip
import io
import os
import shutil
import unicodedata
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, PngImagePlugin
from pydantic import ValidationError

from datasets import ClassLabel, Dataset, DatasetDict, Features
from datasets import Image as ImageFeature
from tckr.errors import UserError
from tckr.images.ingest import ingest
from tckr.images.options import IngestionOptions

SIDE = 16
N = 24


def array(k, i, top=255, dtype=np.uint8):
    pixels = np.random.default_rng([k, i]).integers(0, top // 3, (SIDE, SIDE))
    pixels[2 * k + 2] = top
    return pixels.astype(dtype)


def png(k, i):
    buffer = io.BytesIO()
    Image.fromarray(array(k, i)).save(buffer, "PNG")
    return buffer.getvalue()


def fill(folder, k, n=N, start=0):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(start, start + n):
        (folder / f"{i:04}.png").write_bytes(png(k, i))


def table_of(labels, kinds, **columns):
    images = [png(k, i) for i, k in enumerate(kinds)]
    return pa.table({"image": images, "label": labels, **columns})


def class_labels(names, kinds, start=0):
    features = Features({"image": ImageFeature(), "label": ClassLabel(names=names)})
    rows = {
        "image": [{"bytes": png(k, start + i), "path": None} for i, k in enumerate(kinds)],
        "label": [names.index(("ant", "bee", "cat")[k]) for k in kinds],
    }
    return Dataset.from_dict(rows, features=features)


def split_folders(root, train, test, *beside):
    for name, n, start in ((train, N, 0), (test, 8, 500)):
        for k, label in enumerate(("ant", "bee")):
            fill(root / name / label, k, n, start)
    for folder in beside:
        (root / folder).mkdir(parents=True)


def f01_resource_forks_beside_splits(root):
    split_folders(root, "train", "test", "__MACOSX/train/ant")
    (root / "__MACOSX/train/ant/._0000.png").write_bytes(b"\0\5\x16\7" + bytes(100))


def f02_training_set(root):
    split_folders(root, "training_set", "test_set")


def f03_annotations_beside_splits(root):
    split_folders(root, "train", "eval", "annotations")
    (root / "annotations/a.xml").write_text("<x/>")


def f05b_wrapper(root):
    split_folders(root / "chest_xray", "train", "test")


def f07_linked_class(root):
    fill(root / "set" / "ant", 0)
    fill(root / "store", 1)
    (root / "set" / "bee").symlink_to(root / "store")
    return root / "set"


def f09_csv_beside_classes(root):
    fill(root / "ant", 0)
    fill(root / "bee", 1)
    (root / "class_info.csv").write_text("id,name\n0,ant\n1,bee\n")


def f11_snapshot_of_the_hub(root):
    (root / "plain_text").mkdir()
    (root / "README.md").write_text("# set\n")
    class_labels(["ant", "bee"], [0, 1] * N).to_parquet(root / "plain_text/train-00000.parquet")
    class_labels(["ant", "bee"], [0, 1] * 6, 500).to_parquet(root / "plain_text/test-00000.parquet")


def f12_litter(root):
    for k, label in enumerate(("ant", "bee")):
        fill(root / label, k)
        fill(root / label / ".ipynb_checkpoints", 1 - k, 3, 700)
        (root / label / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0" + bytes(50))
        (root / label / "._0000.png").write_bytes(bytes(30))
    (root / "empty").mkdir()


def f14b_two_forms_of_one_name(root):
    for form, start in (("NFD", 0), ("NFC", 500)):
        fill(root / unicodedata.normalize(form, "\u00e9t\u00e9"), 1, N, start)
    fill(root / "ant", 0, 2 * N)


def f15_patients_said_to_be_above_classes(root):
    for patient in range(12):
        for k, label in enumerate(("ant", "bee")):
            fill(root / f"{10253 + patient}" / label, k, 4, 100 * patient)


def f29_sidecars(root):
    for k, label in enumerate(("ant", "bee")):
        fill(root / label, k)
        for file in list((root / label).iterdir()):
            file.with_suffix(".json").write_text("{}")
            file.with_suffix(".txt").write_text("a drawing")


def i01_twelve_bits(root, top=4095, suffix="png"):
    for k, label in enumerate(("ant", "bee")):
        (root / label).mkdir()
        for i in range(N):
            Image.fromarray(array(k, i, top, np.uint16)).save(root / label / f"{i}.{suffix}")


def i02_eight_bits_in_sixteen(root):
    i01_twelve_bits(root, 255, "tif")


def i04_floats_to_255(root):
    for k, label in enumerate(("ant", "bee")):
        (root / label).mkdir()
        for i in range(N):
            Image.fromarray(array(k, i, dtype=np.float32)).save(root / label / f"{i}.tif")


def i06_long_text(root):
    for k, label in enumerate(("ant", "bee")):
        fill(root / label, k)
        for i in range(8):
            text = PngImagePlugin.PngInfo()
            text.add_text("prompt", "x" * 2_000_000, zip=True)
            Image.fromarray(array(k, 600 + i)).save(root / label / f"t{i}.png", pnginfo=text)


def i22_white_ink(root):
    for k, label in enumerate(("ant", "bee")):
        (root / label).mkdir()
        for i in range(N):
            alpha = array(k, i)
            pixels = np.dstack([np.full_like(alpha, 255)] * 3 + [alpha])
            Image.fromarray(pixels).save(root / label / f"{i}.png")


def npz(root, labels, dtype=np.uint8, change=lambda x: x):
    pixels = np.stack([array(i % 2, i) for i in range(2 * N)])
    np.savez(root / "set.npz", images=change(pixels).astype(dtype), labels=labels)


def n01_bytes_as_labels(root):
    npz(root, np.array([(b"ant", b"bee")[i % 2] for i in range(2 * N)]))


def n02_sixteen_bits(root):
    npz(root, np.array(["ant", "bee"] * N), np.uint16, lambda x: x.astype(int) * 257)


def n02_floats(root):
    npz(root, np.array(["ant", "bee"] * N), np.float32)


def n02_signed(root):
    npz(root, np.array(["ant", "bee"] * N), np.float32, lambda x: x / 127.5 - 1)


def n05_zero_and_one(root):
    npz(root, np.array(["ant", "bee"] * N), np.uint8, lambda x: x > 40)


def n11_missing_labels(root):
    labels = (np.arange(2 * N) % 2).astype(float)
    labels[:6] = np.nan
    npz(root, labels)


def n20_minus_one(root):
    labels = np.arange(2 * N) % 2
    labels[:6] = -1
    npz(root, labels)


def p02b_shards_with_other_names(root):
    class_labels(["ant", "bee"], [0, 1] * N).to_parquet(root / "train-00000-of-00002.parquet")
    shard = class_labels(["ant", "bee", "cat"], [0, 1, 2] * 12, 500)
    shard.to_parquet(root / "train-00001-of-00002.parquet")


def p03_splits_with_other_numbers(root):
    parts = {
        "train": class_labels(["ant", "bee"], [0, 1] * N),
        "test": class_labels(["bee", "ant"], [0, 1] * 6, 500),
    }
    DatasetDict(parts).save_to_disk(root / "saved")
    return root / "saved"


def p04_floats_as_labels(root):
    labels = [float(i % 3) if i else None for i in range(3 * N)]
    pq.write_table(table_of(labels, [i % 3 for i in range(3 * N)]), root / "train.parquet")


def csv(root, header, line, names=None):
    for i in range(2 * N):
        path = root / (names(i) if names else f"{i}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(i % 2, i))
    lines = [line(i, ("ant", "bee")[i % 2]) for i in range(2 * N)]
    (root / "set.csv").write_text("\n".join([header, *lines]) + "\n")


def t01_trailing_commas(root):
    csv(root, "path,label", lambda i, label: f"{i}.png,{label},")


def t02_backslashes(root):
    csv(root, "path,label", lambda i, label: f"img\\{i}.png,{label}", lambda i: f"img/{i}.png")


def t03_excel(root):
    csv(root, "path\tlabel", lambda i, label: f'{i}.png\t"{label}"')
    text = (root / "set.csv").read_text()
    (root / "set.csv").write_text(text, encoding="utf-16")


def t04_ids_without_suffix(root):
    csv(
        root,
        "lesion_id,image,diagnosis",
        lambda i, label: f"HAM_{i},ISIC_{i:04},{label}",
        lambda i: f"part_{i % 2}/ISIC_{i:04}.png",
    )


def t07_words_of_fer2013(root):
    words = ("Training", "Training", "Training", "PublicTest", "PrivateTest")
    csv(root, "path,label,split", lambda i, label: f"{i}.png,{label},{words[i % 5]}")


def x02_packed_beside_unpacked(root):
    import struct

    for name, n, start in (("train", 2 * N, 0), ("t10k", 12, 900)):
        pixels = np.stack([array(i % 2, start + i) for i in range(n)]).tobytes()
        images = struct.pack(">4I", 0x803, n, SIDE, SIDE) + pixels
        labels = struct.pack(">2I", 0x801, n) + bytes(i % 2 for i in range(n))
        for kind, content in (("images-idx3", images), ("labels-idx1", labels)):
            (root / f"{name}-{kind}-ubyte").write_bytes(content)
            (root / f"{name}-{kind}-ubyte.gz").write_bytes(gzip.compress(content))


TWO, NUMBERS = ["ant", "bee"], ["0", "1"]
RIGHT = [
    (f01_resource_forks_beside_splits, TWO, {"read": 64}),
    (f02_training_set, TWO, {"read": 64}),
    (f03_annotations_beside_splits, TWO, {"read": 64}),
    (f05b_wrapper, TWO, {"read": 64}),
    (f07_linked_class, TWO, {"read": 48}),
    (f09_csv_beside_classes, TWO, {"read": 48}),
    (f11_snapshot_of_the_hub, TWO, {"read": 60}),
    (f12_litter, TWO, {"read": 48, "skipped": 0}),
    (f14b_two_forms_of_one_name, ["ant", "\u00e9t\u00e9"], {"read": 96}),
    (f15_patients_said_to_be_above_classes, TWO, {"read": 96}),
    (f29_sidecars, TWO, {"read": 48, "skipped": 0}),
    (i01_twelve_bits, TWO, {"skipped": 0}),
    (i02_eight_bits_in_sixteen, TWO, {"skipped": 0}),
    (i04_floats_to_255, TWO, {"skipped": 0}),
    (i06_long_text, TWO, {"read": 64, "skipped": 0}),
    (i22_white_ink, TWO, {"skipped": 0}),
    (n01_bytes_as_labels, TWO, {"skipped": 0}),
    (n02_sixteen_bits, TWO, {"skipped": 0}),
    (n02_floats, TWO, {"skipped": 0}),
    (n02_signed, TWO, {"skipped": 0}),
    (n05_zero_and_one, TWO, {"skipped": 0}),
    (n11_missing_labels, NUMBERS, {"skipped": 6}),
    (n20_minus_one, NUMBERS, {"skipped": 6}),
    (p02b_shards_with_other_names, ["ant", "bee", "cat"], {"read": 84}),
    (p03_splits_with_other_numbers, TWO, {"read": 60}),
    (p04_floats_as_labels, ["0", "1", "2"], {"skipped": 1}),
    (t01_trailing_commas, TWO, {"skipped": 0}),
    (t02_backslashes, TWO, {"skipped": 0}),
    (t03_excel, TWO, {"skipped": 0}),
    (t04_ids_without_suffix, TWO, {"skipped": 0}),
    (t07_words_of_fer2013, TWO, {"read": 48}),
    (x02_packed_beside_unpacked, NUMBERS, {"read": 60}),
]
OPTIONS = {f15_patients_said_to_be_above_classes: {"folders": "group/class"}}
OWN_TEST = {
    f01_resource_forks_beside_splits: 16,
    f02_training_set: 16,
    f03_annotations_beside_splits: 16,
    f05b_wrapper: 16,
    f11_snapshot_of_the_hub: 12,
    p03_splits_with_other_numbers: 12,
    t07_words_of_fer2013: 18,
    x02_packed_beside_unpacked: 12,
}


@pytest.mark.parametrize(
    ("write", "classes", "expected"), RIGHT, ids=[one[0].__name__ for one in RIGHT]
)
def test_it_comes_in_right(tmp_path, write, classes, expected):
    path = write(tmp_path) or tmp_path
    table, report = ingest(path, IngestionOptions(size=SIDE, **OPTIONS.get(write, {})), 0)
    assert report["classes"] == classes
    assert {key: report[key] for key in expected} == expected
    if write in OWN_TEST:
        assert report["splits"]["test"] == OWN_TEST[write]
    for label, content in zip(table["label"], table["image"], strict=True):
        pixels = np.asarray(Image.open(io.BytesIO(content)).convert("L")).astype(float)
        assert np.argmax(pixels.mean(1)) == 2 * label + 2
        assert pixels.max() > 200


def f05_wrapper_and_copy(root):
    split_folders(root, "train", "test")
    shutil.copytree(root, root.parent / "copy")
    (root.parent / "copy").rename(root / "chest_xray")


def f06_metadata_without_labels(root):
    for name in ("train", "test"):
        fill(root / name, 0, 6)
        (root / name / "metadata.csv").write_text("file_name,age\n0000.png,3\n")


def f13_class_that_is_no_utf8(root):
    fill(root / "ant", 0)
    name = os.fsencode(root) + b"/caf\xe9"
    os.mkdir(name)
    with open(name + b"/1.png", "wb") as stream:
        stream.write(png(1, 1))


def f15_patients_above_classes(root):
    f15_patients_said_to_be_above_classes(root)


def f32_dataset_json_without_labels(root):
    fill(root / "00000", 0)
    fill(root / "00001", 1)
    (root / "dataset.json").write_text('{"labels": null}')


def i04b_two_scales(root):
    i04_floats_to_255(root)
    for file in sorted((root / "ant").iterdir()):
        Image.fromarray(np.asarray(Image.open(file)) / 255).save(file)


def n02b_two_exports(root):
    npz(
        root,
        np.arange(2 * N) % 2,
        np.float32,
        lambda x: np.where(np.arange(2 * N)[:, None, None] % 3, x / 255, x / 127.5 - 1),
    )


def p01_lists(root):
    pq.write_table(table_of([[0], [1], [0, 2]] * N, [0, 1, 2] * N), root / "train.parquet")


def p17_out_of_range(root):
    note = b'{"info": {"features": {"label": {"_type": "ClassLabel", "names": ["ant", "bee", "cat"]}}}}'
    table = table_of([1 + i % 3 for i in range(60)], [i % 3 for i in range(60)])
    pq.write_table(table.replace_schema_metadata({b"huggingface": note}), root / "train.parquet")


def p02c_names_and_numbers(root):
    class_labels(["ant", "bee"], [0, 1] * N).to_parquet(root / "train.parquet")
    pq.write_table(table_of([0, 1] * 6, [0, 1] * 6), root / "test.parquet")


def t06_two_labels_for_one_image(root):
    csv(
        root,
        "path,label",
        lambda i, label: f"{i}.png,{label}\n{i}.png,cat" if i % 4 == 0 else f"{i}.png,{label}",
    )


def t08_unknown_words(root):
    csv(root, "path,label,split", lambda i, label: f"{i}.png,{label},fold{i % 3}")


def t17_paths_outside(root):
    csv(root, "path,label", lambda i, label: f"../elsewhere/{i}.png,{label}")


REFUSED = [
    (f05_wrapper_and_copy, ("chest_xray", "called like splits")),
    (f06_metadata_without_labels, ("metadata.csv", "ingestion.label_column")),
    (f13_class_that_is_no_utf8, ("caf\\\\xe9", "UTF-8")),
    (f15_patients_above_classes, ("10253", "ant, bee", "ingestion.folders", "group/class")),
    (f32_dataset_json_without_labels, ("dataset.json", "Labels are missing")),
    (i04b_two_scales, ("ingestion.range",)),
    (n02b_two_exports, ("two scales", "ingestion.range")),
    (p01_lists, ("several labels per image",)),
    (p17_out_of_range, ("label 3", "ant, bee, cat")),
    (p02c_names_and_numbers, ("train.parquet names its classes", "test.parquet has numbers only")),
    (t06_two_labels_for_one_image, ("12 of 48 images", "several labels")),
    (t08_unknown_words, ("fold0", "ingestion.test_split")),
    (t17_paths_outside, ("outside", "ingestion.allow_outside")),
]


@pytest.mark.parametrize(("write", "words"), REFUSED, ids=[one[0].__name__ for one in REFUSED])
def test_it_is_refused_in_one_line(tmp_path, write, words):
    path = write(tmp_path) or tmp_path
    with pytest.raises(UserError) as caught:
        ingest(path, IngestionOptions(size=SIDE), 0)
    message = str(caught.value)
    assert "\n" not in message
    message.encode("utf-8")
    for word in words:
        assert word in message, message


def test_a_skipped_file_whose_name_is_no_utf8_is_named_readably(tmp_path):
    fill(tmp_path / "ant", 0)
    fill(tmp_path / "bee", 1)
    with open(os.fsencode(tmp_path / "bee") + b"/bad\xe9.png", "wb") as stream:
        stream.write(b"no image")
    report = ingest(tmp_path, IngestionOptions(size=SIDE), 0)[1]
    assert report["skipped_images"] == [
        {"name": "bee/bad\\xe9.png", "reason": "not an image of a known format"}
    ]


def test_base64_text_is_read(tmp_path):
    import base64

    rng = np.random.default_rng(0)
    images = []
    for _ in range(40):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (32, 32), dtype=np.uint8)).save(buffer, "PNG")
        images.append(base64.b64encode(buffer.getvalue()).decode())
    pd.DataFrame({"image": images, "label": ["a", "b"] * 20}).to_parquet(tmp_path / "t.parquet")
    assert ingest(tmp_path, IngestionOptions(size=SIDE), 0)[1]["images"] == 40


def test_what_was_read_is_always_said(tmp_path, caplog):
    fill(tmp_path / "Ant", 0)
    fill(tmp_path / "ant", 1)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    with caplog.at_level("INFO"):
        report = ingest(tmp_path, IngestionOptions(size=SIDE), 0)[1]
    for word in ("folder per class", "L 48", "8 bits 0..255", "Ant", "ant", "members", "holdout"):
        assert word in caplog.text
    for word in ("differ only in case", "empty, an empty folder", "1 .txt"):
        assert word in caplog.text
    assert report["left_out"] == ["empty, an empty folder", "files that are no images: 1 .txt"]


def in_one_folder(root, splits=("",)):
    """DPSDA and guided-diffusion: <class>_<number>.png."""
    for s, name in enumerate(splits):
        (root / name).mkdir(exist_ok=True)
        for i in range(2 * N):
            (root / name / f"{('ant', 'bee')[i % 2]}_{i:06d}.png").write_bytes(
                png(i % 2, i + 500 * s)
            )


def ingest_by_name(root, pattern, **changes):
    options = IngestionOptions(size=SIDE, label_pattern=pattern, **changes)
    table, report = ingest(root, options, 0)
    for label, content in zip(table["label"], table["image"], strict=True):
        assert np.argmax(np.asarray(Image.open(io.BytesIO(content))).mean(1)) == 2 * label + 2
    return table, report


def test_f33_labels_in_the_names_of_files_are_found_by_a_pattern(tmp_path):
    in_one_folder(tmp_path)
    with pytest.raises(UserError, match=r"lie in no class folder.*ingestion.label_pattern"):
        ingest(tmp_path, IngestionOptions(size=SIDE), 0)
    table, report = ingest_by_name(tmp_path, "([a-z]+)_[0-9]+")
    assert report["classes"] == ["ant", "bee"]
    assert len(table) == 2 * N


def test_f33_splits_above_labels_in_names_are_kept(tmp_path):
    in_one_folder(tmp_path, ("train", "test"))
    _, report = ingest_by_name(tmp_path, "/([a-z]+)_")
    assert report["splits"]["test"] == 2 * N
    (tmp_path / "more").mkdir()
    (tmp_path / "more/ant_1.png").write_bytes(png(0, 999))
    with pytest.raises(UserError, match=r"test, train are called like splits.*more"):
        ingest_by_name(tmp_path, "/([a-z]+)_")


def test_f33_a_name_without_a_label_is_refused(tmp_path):
    in_one_folder(tmp_path)
    (tmp_path / "cover.png").write_bytes(png(0, 999))
    with pytest.raises(UserError, match=r"label_pattern finds no label in the name 'cover.png'"):
        ingest_by_name(tmp_path, "([a-z]+)_[0-9]+")
    with pytest.raises(ValidationError, match="keep one of them"):
        IngestionOptions(label_pattern="(a)", folders="class")
    with pytest.raises(ValidationError, match="brackets"):
        IngestionOptions(label_pattern="a")


def test_f30_an_archive_is_refused_by_name(tmp_path):
    packed = tmp_path / "set.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("ant/1.png", png(0, 0))
    for path in (packed, tmp_path):
        with pytest.raises(UserError, match=r"Remedy: unpack"):
            ingest(path, IngestionOptions(size=SIDE), 0)


@pytest.mark.parametrize("suffix", ["nii", "nii.gz", "nrrd", "svg", "heic"])
def test_a_class_of_files_that_are_not_read_is_refused_by_name(tmp_path, suffix):
    for k, name in enumerate(("ant", "bee", "cat")):
        fill(tmp_path / name, k)
    for file in (tmp_path / "cat").iterdir():
        file.rename(file.with_suffix(f".{suffix}"))
        file.with_suffix(f".{suffix}").write_bytes(b"\x5c\x01\0\0" + bytes(344) + b"n+1\0")
    with pytest.raises(UserError, match=r"Class 'cat' .* none of its \d+ can be read.*save") as e:
        ingest(tmp_path, IngestionOptions(size=SIDE), 0)
    assert f"0000.{suffix}" in str(e.value)


def test_a_nifti_file_alone_is_refused_with_what_to_do(tmp_path):
    volume = tmp_path / "scan.nii.gz"
    volume.write_bytes(gzip.compress(bytes(400)))
    with pytest.raises(
        UserError, match=r"NIfTI volume.*Remedy: save its slices as DICOM or 16-bit"
    ):
        ingest(volume, IngestionOptions(size=SIDE), 0)
