"""Random sets, written in every format, come back with the same classes, pixels and splits."""

import gzip
import io
import json
import struct
from collections import Counter

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
from tckr.images.pixels import judge
from tckr.images.prepare import decode
from tckr.images.readers import read

NAMES = [
    "cat",
    "caf\u00e9",
    "a b",
    "C++ #1",
    "NA",
    "None",
    "01",
    "\u732b",
    "50% off",
    "it's",
    "test tube",
    "x.y",
]


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def came_in(path, **options):
    """What was read: how often each label, split and picture comes."""
    options = IngestionOptions(**options)
    table = read(path, options)
    scales = judge(table, options, str(path))
    return Counter(
        (image.label, image.split, decode(image.content, 10**6, 64, scales)[0].tobytes())
        for image in table.images
    )


def as_folders(root, images):
    for number, (label, split, pixels) in enumerate(images):
        folder = root / ("test_set" if split == "test" else "training_set") / label
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.png").write_bytes(png(pixels))
    return root


def as_csv(root, images):
    rows = [("path", "label", "split")]
    for number, (label, split, pixels) in enumerate(images):
        (root / f"{number}.png").write_bytes(png(pixels))
        rows.append((f"{number}", label, "PrivateTest" if split == "test" else "Training"))
    pd.DataFrame(rows[1:], columns=rows[0]).to_csv(root / "set.csv", index=False, sep=";")
    return root


def as_metadata(root, images):
    lines = {"train": [], "test": []}
    for number, (label, split, pixels) in enumerate(images):
        folder = root / ("test" if split == "test" else "train")
        folder.mkdir(exist_ok=True)
        (folder / f"{number}.png").write_bytes(png(pixels))
        lines[folder.name].append(json.dumps({"file_name": f"{number}.png", "label": label}))
    for name, texts in lines.items():
        if texts:
            (root / name / "metadata.jsonl").write_text("\n".join(texts))
    return root


def columns_of(images):
    return {
        "image": [{"bytes": png(pixels), "path": None} for _, _, pixels in images],
        "label": [label for label, _, _ in images],
        "split": ["test" if split == "test" else "validation" for _, split, _ in images],
    }


def as_parquet(root, images):
    pq.write_table(pa.table(columns_of(images)), root / "all.parquet")
    return root


def as_arrow(root, images):
    feather.write_feather(pa.table(columns_of(images)), root / "all.feather")
    return root / "all.feather"


def as_saved(root, images):
    """Each split numbers its own classes in its own order."""
    parts = {}
    for split, name in (("pool", "train"), ("test", "test")):
        rows = [one for one in images if one[1] == split]
        names = list(dict.fromkeys(label for label, _, _ in rows))
        if rows:
            parts[name] = Dataset.from_dict(
                {
                    "image": [{"bytes": png(pixels), "path": None} for _, _, pixels in rows],
                    "label": [names.index(label) for label, _, _ in rows],
                },
                features=Features({"image": ImageFeature(), "label": ClassLabel(names=names)}),
            )
    DatasetDict(parts).save_to_disk(root / "saved")
    return root / "saved"


def as_shards(root, images):
    """Files of `datasets` in a folder of a configuration, each with its own names."""
    (root / "default").mkdir()
    for split, name in (("pool", "train-00000-of-00001"), ("test", "test-00000-of-00001")):
        rows = [one for one in images if one[1] == split]
        names = sorted({label for label, _, _ in rows})
        if rows:
            Dataset.from_dict(
                {
                    "image": [{"bytes": png(pixels), "path": None} for _, _, pixels in rows],
                    "label": [names.index(label) for label, _, _ in rows],
                },
                features=Features({"image": ImageFeature(), "label": ClassLabel(names=names)}),
            ).to_parquet(root / "default" / f"{name}.parquet")
    return root


def as_npz(root, images, encode=np.array):
    arrays = {}
    for split, name in (("pool", "train"), ("test", "test")):
        rows = [one for one in images if one[1] == split]
        if rows:
            arrays[f"{name}_images"] = np.stack([pixels for _, _, pixels in rows])
            arrays[f"{name}_labels"] = encode([label for label, _, _ in rows])
    np.savez_compressed(root / "set.npz", **arrays)
    return root


def as_idx(root, images):
    for split, name in (("pool", "emnist-digits-train"), ("test", "emnist-digits-test")):
        rows = [one for one in images if one[1] == split]
        if rows:
            pixels = np.stack([one[2] for one in rows])
            header = struct.pack(">4I", 0x803, *pixels.shape)
            labels = struct.pack(">2I", 0x801, len(rows)) + bytes(int(one[0]) for one in rows)
            for kind, content in (
                ("images-idx3", header + pixels.tobytes()),
                ("labels-idx1", labels),
            ):
                (root / f"{name}-{kind}-ubyte.gz").write_bytes(gzip.compress(content))
    return root


def encoded(labels):
    return np.array([label.encode() for label in labels])


def whole_floats(labels):
    return np.array([[float(label)] for label in labels], np.float32)


FOR_NAMES = (as_folders, as_csv, as_metadata, as_parquet, as_arrow, as_saved, as_shards, as_npz)
FOR_NUMBERS = (
    as_idx,
    lambda root, images: as_npz(root, images, whole_floats),
    lambda root, images: as_npz(root, images, encoded),
    lambda root, images: as_parquet(root, [(float(one), *rest) for one, *rest in images]),
    lambda root, images: as_csv(root, [(f"{one}.0", *rest) for one, *rest in images]),
)


@st.composite
def sets(draw, names):
    """Images of at least two classes in both splits; noise, so that no two are alike."""
    classes = draw(st.lists(st.sampled_from(names), min_size=2, max_size=5, unique=True))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    dtype, top = draw(st.sampled_from([(np.uint8, 256), (np.uint8, 200)]))
    images = [(label, split) for label in classes for split in ("pool", "test")]
    images += [
        (draw(st.sampled_from(classes)), draw(st.sampled_from(["pool", "test"])))
        for _ in range(draw(st.integers(0, 6)))
    ]
    return [(*one, rng.integers(0, top, (9, 7)).astype(dtype)) for one in images]


@pytest.mark.parametrize("write", FOR_NAMES)
@settings(max_examples=12, deadline=None)
@given(images=sets(NAMES))
def test_names(tmp_path_factory, write, images):
    path = write(tmp_path_factory.mktemp("set"), images)
    assert came_in(path) == Counter((one, split, pixels.tobytes()) for one, split, pixels in images)


@pytest.mark.parametrize("write", FOR_NUMBERS)
@settings(max_examples=12, deadline=None)
@given(images=sets([str(number) for number in range(12)]))
def test_numbers(tmp_path_factory, write, images):
    path = write(tmp_path_factory.mktemp("set"), images)
    assert came_in(path) == Counter((one, split, pixels.tobytes()) for one, split, pixels in images)


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(
        st.one_of(
            st.none(),
            st.integers(-3, 12),
            st.floats(allow_infinity=False),
            st.text(max_size=3),
            st.lists(st.integers(0, 3), max_size=2),
        ),
        min_size=1,
        max_size=5,
    ),
    named=st.booleans(),
)
def test_any_column_of_labels_gives_clean_classes_or_one_line(tmp_path_factory, values, named):
    try:
        column = pa.array(values)
    except (pa.ArrowException, TypeError):
        return
    table = pa.table({"image": [png(np.zeros((4, 4), np.uint8))] * len(values), "label": column})
    if named:
        feature = {"label": {"_type": "ClassLabel", "names": ["ant", "bee", "cat"]}}
        note = json.dumps({"info": {"features": feature}}).encode()
        table = table.replace_schema_metadata({b"huggingface": note})
    path = tmp_path_factory.mktemp("set") / "x.parquet"
    pq.write_table(table, path)
    found, refusal = [], ""
    try:
        found = [image.label for image in read(path, IngestionOptions()).images]
    except UserError as error:
        refusal = str(error)
    assert "\n" not in refusal
    for value, label in zip(values, found, strict=not refusal):
        missing = value is None or value != value or value == -1
        assert (label is None) == missing or isinstance(value, str)
        if named and label is not None and not isinstance(value, str):
            assert label == ("ant", "bee", "cat")[int(value)]
