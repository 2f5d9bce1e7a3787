"""A table of labelled images as a folder that `datasets.load_dataset` opens."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from kedro.io.core import Version
from kedro_datasets._typing import ImagePreview
from pydantic import Field

from tckr.datasets import identity
from tckr.datasets.folder import FolderDataset
from tckr.datasets.picture import as_preview
from tckr.images.degenerate import warnings_about
from tckr.images.encoded import EncodedImages, encoded
from tckr.images.fonts import class_label
from tckr.images.names import markdown
from tckr.images.sheets import sheet
from tckr.images.split import SPLITS
from tckr.images.stores import ParquetImages
from tckr.images.tables import CLASSES, DESCRIBED, UNFINISHED, VIEWS, class_names, with_class_names
from tckr.images.tensors import to_tensor
from tckr.images.unfinished import forget
from tckr.options import Options

# A row group ends at the first of these: one is what is read to see a single image (docs/benchmarks.md).
GROUP_BYTES, GROUP_ROWS = 4 << 20, 1000

# Columns of a teacher's class probabilities: of the image, and of each of its fixed views.
SOFT = {"soft_label": pa.list_(pa.float32()), "soft_labels": pa.list_(pa.list_(pa.float32()))}
LISTED = ".list.element"

SOFT_LABELS = """\
The column `soft_label` holds a teacher's class probabilities, and **that teacher was trained on private images**. Soft
labels carry what the teacher knows, knowledge about single members included: they are a channel out of the private set, not
made harmless by the images being synthetic. The privacy audit attacks them as they are handed out: it trains a network on these
images and labels, and attacks that (row `released` of its figures). Drop the column if hard labels are enough."""
PROMPTS = """\
The column `prompt` holds what the generator was asked for. Such prompts may repeat captions of private images, word for
word."""
VIEWS_TEXT = """\
The column `soft_labels` holds the teacher's class probabilities of several views of each image, the image itself first: train
on a view with its own label. Pixel (y, x) of a view is the image's pixel (y + down, x + right), of a mirrored view
(y + down, W - 1 - x + right) where W is the width; coordinates beyond an edge are those of the edge. Then what differs from
the view's mean is multiplied by the contrast, the offset is added (white is 1), and the result is clipped to [0, 1]."""
CANARIES = """\
The rows marked in the column `canary` have a `label` and a `class_name` that are **wrong on purpose**, to measure what a
model learns by heart. Leave them out to train a model for use."""
PRIVATE = """\
**These are the private images themselves.** This folder is a work file of the run and must not be shared."""


class Card(Options):
    """What the dataset card says besides the facts of the table."""

    title: str = Field(default="Image table", description="heading of the card")
    licence: str = Field(default="other", description="licence identifier of the Hugging Face hub")
    description: str = Field(default="", description="what this is and how it was made (Markdown)")
    tags: tuple[str, ...] = Field(default=(), description="words by which the hub finds it")


class ImageTableDataset(FolderDataset[pd.DataFrame]):
    """A versioned folder `data/<split>-*.parquet` + `README.md` (dataset card) of a table of images.

    The table needs the columns image (PNG bytes), split, label (0..C-1) and class_name; soft_label (C floats), soft_labels
    (K x C floats, see `tckr.classifiers.fixed_views`), canary (bool) and any other column are kept, and so are the names of all classes (`tckr.images.tables.with_class_names`).
    `datasets.load_dataset(folder)` opens it with Image, ClassLabel and float32 list features; the files are named after
    their content, so that its cache takes no other set for this one. Rows come back grouped by split, in their order
    within it.

    Images are written by row groups as they come and stay in the file until they are used (`EncodedImages`), so that
    neither takes memory that grows with them. In memory are the other columns: about 100 bytes for each image, 120 and
    four for each class more for its soft label, and its prompt.

    In the catalog:

    ```yaml
    recycled_set:
      type: tckr.datasets.image_table.ImageTableDataset
      filepath: data/05_model_input/recycled_set
      versioned: true
      card:
        title: Recycled set
        licence: mit
        description: Images drawn by the adapted generator.
    ```

    In Python:

    >>> import tempfile
    >>> import torch
    >>> from tckr.images.tensors import to_png
    >>> pixels = np.zeros((2, 1, 8, 8), np.uint8)
    >>> table = pd.DataFrame(
    ...     {
    ...         "image": to_png(torch.from_numpy(pixels)),
    ...         "split": ["train", "train"],
    ...         "label": [0, 1],
    ...         "class_name": ["bag", "boot"],
    ...     }
    ... )
    >>> recycled = ImageTableDataset(filepath=f"{tempfile.mkdtemp()}/recycled_set")
    >>> recycled.save(table)
    >>> recycled.load()["class_name"].tolist()
    ['bag', 'boot']
    """

    def __init__(
        self,
        *,
        filepath: str,
        card: dict[str, Any] | None = None,
        version: Version | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Args: filepath: the folder. card: fields of `Card`. metadata: for plugins, not used here."""
        super().__init__(filepath=filepath, version=version, metadata=metadata)
        self._card = Card(**(card or {}))

    def read(self, path: Path) -> pd.DataFrame:
        """Read all splits into one table."""
        files = _files(path)
        table = pd.concat([_read_split(file) for file in files], ignore_index=True)
        return with_class_names(table, _stored_names(files[0]))

    def save(self, data: pd.DataFrame) -> None:
        """Write a new version; then the unfinished work that its images came from is removed."""
        super().save(data)
        if UNFINISHED in data.attrs:
            forget(Path(data.attrs[UNFINISHED]))

    def write(self, data: pd.DataFrame, path: Path) -> None:
        """Write one Parquet file per split, and the card."""
        names = _class_names(data)
        splits = sorted(data["split"].unique(), key=_rank)
        (path / "data").mkdir()
        for split in splits:
            rows = data[data["split"] == split].drop(columns="split")
            _write_split(rows, names, path / "data" / identity.shard(split))
        digest = identity.name_by_content(path / "data")
        features = _stored_features(_files(path)[0])
        (path / "README.md").write_text(
            _card_text(data, names, splits, self._card, digest, features), encoding="utf-8"
        )

    def preview(self, columns: int = 8, classes: int = 10) -> ImagePreview:
        """Show some images of each class of the first split in kedro-viz."""
        folder = Path(self._get_load_path())
        file = _files(folder)[0]
        rows = _read_split(file, ["image", "class_name", "label"])
        shown = rows.sort_values("label", kind="stable").groupby("label").head(columns)
        lines = [
            (class_label(str(name), number), to_tensor(part["image"]))
            for (name, number), part in shown.groupby(["class_name", "label"], sort=False)
        ]
        return as_preview(
            sheet(lines[:classes], title=f"{identity.split_of(file)} ({len(rows):,} images)")
        )

    def _exists(self) -> bool:
        return (Path(self._get_load_path()) / "README.md").is_file()

    def _describe(self) -> dict[str, Any]:
        return {**super()._describe(), "card": self._card.model_dump()}


def _class_names(table: pd.DataFrame) -> list[str]:
    """Return the names of the classes 0..C-1; one that has neither images nor a given name is named by its number."""
    known = dict(zip(table["label"].astype(int), table["class_name"].astype(str), strict=True))
    given = dict(enumerate(class_names(table))) if CLASSES in table.attrs else {}
    n_classes = max([*known, *given, -1]) + 1
    if "soft_label" in table and len(table):
        n_classes = max(n_classes, len(table["soft_label"].iloc[0]))
    return [given.get(number) or known.get(number, str(number)) for number in range(n_classes)]


def _stored_names(file: Path) -> list[str]:
    """Return the names of all classes, as the library `datasets` stores them in the schema of a file."""
    about = json.loads((pq.read_schema(file).metadata or {}).get(b"huggingface", b"{}"))
    names = about.get("info", {}).get("features", {}).get("label", {}).get("names", [])
    return [str(name) for name in names]


def _stored_features(file: Path) -> Any:
    """Return the feature types of `datasets` that the schema of a file holds."""
    from datasets import Features

    return Features.from_arrow_schema(pq.read_schema(file))


def _size_category(images: int) -> str:
    """Return the hub's word for a number of rows.

    >>> _size_category(60), _size_category(3000), _size_category(10_000_000)
    ('n<1K', '1K<n<10K', '10M<n<100M')
    """
    steps = ["1K", "10K", "100K", "1M", "10M", "100M", "1B"]
    passed = sum(images >= 1000 * 10**power for power in range(len(steps)))
    if passed in (0, len(steps)):
        return "n<1K" if passed == 0 else "n>1B"
    return f"{steps[passed - 1]}<n<{steps[passed]}"


def _card_text(
    table: pd.DataFrame,
    names: list[str],
    splits: list[str],
    card: Card,
    digest: str,
    features: Any,
) -> str:
    """Return the README.md of the folder: YAML for the hub and `load_dataset`, then the facts in prose."""
    header = {
        "license": card.licence,
        "pretty_name": card.title,
        "task_categories": ["image-classification"],
        "size_categories": [_size_category(len(table))],
        **({"tags": [*card.tags]} if card.tags else {}),
        "dataset_info": {"features": features._to_yaml_list()},
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": split, "path": identity.pattern(split, digest)} for split in splits
                ],
            }
        ],
    }
    counts = pd.crosstab(table["label"], table["split"])
    counts = counts.reindex(range(len(names)), fill_value=0)
    rows = [
        f"| {markdown(name)} | "
        + " | ".join(f"{counts.loc[number, split]:,}" for split in splits)
        + " |"
        for number, name in enumerate(names)
    ]
    present = int((counts.sum(axis=1) > 0).sum())
    of_all = "" if present == len(names) else f" of {len(names):,}"
    columns = ", ".join(f"`{column}`" for column in table.columns if column != "split")
    parts = [
        f"---\n{yaml.safe_dump(header, sort_keys=False, allow_unicode=True)}---",
        f"# {card.title}",
        PRIVATE if "members" in splits else "",
        card.description,
        "## Content",
        f"{len(table):,} images of {present:,}{of_all} classes; columns: {columns}.",
        "| class | "
        + " | ".join(splits)
        + " |\n| --- |"
        + " ---: |" * len(splits)
        + "\n"
        + "\n".join(rows),
        CANARIES if "canary" in table and table["canary"].any() else "",
        *_described(table),
        *_warnings(table),
        *_views(table),
        *_privacy(table),
        "## Use",
        '```python\nfrom datasets import load_dataset\n\nimages = load_dataset("path/of/this/folder")\n```',
    ]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def _privacy(table: pd.DataFrame) -> list[str]:
    warnings = {"soft_label": SOFT_LABELS, "prompt": PROMPTS}
    given = [text for column, text in warnings.items() if column in table]
    return ["## Privacy", *given] if given else []


def _views(table: pd.DataFrame) -> list[str]:
    """Return how to make the views again whose soft labels are stored."""
    if "soft_labels" not in table or VIEWS not in table.attrs:
        return []
    rows = [
        f"| {number} | {'yes' if mirrored else 'no'} | {down} | {right} | {contrast:g} | {offset:g} |"
        for number, (mirrored, down, right, contrast, offset) in enumerate(table.attrs[VIEWS])
    ]
    head = "| view | mirrored | down | right | contrast | offset |\n| ---: | --- | ---: | ---: | ---: | ---: |\n"
    return ["## Views", VIEWS_TEXT, head + "\n".join(rows)]


def _described(table: pd.DataFrame) -> list[str]:
    """Return which options decided what images there are."""
    said = table.attrs.get(DESCRIBED)
    return (
        ["## How the images were chosen", "\n".join(f"- {markdown(each)}" for each in said)]
        if said
        else []
    )


def _warnings(table: pd.DataFrame) -> list[str]:
    found = [f"- {markdown(warning.for_release)}" for warning in warnings_about(table)]
    return ["## Warnings", "\n".join(found)] if found else []


def _files(folder: Path) -> list[Path]:
    """Return the files of a table, split by split, in the order of their shards."""
    files = sorted((folder / "data").glob("*.parquet"))
    return sorted(files, key=lambda file: _rank(identity.split_of(file)))


def _rank(split: str) -> tuple[int, str]:
    return (SPLITS.index(split) if split in SPLITS else len(SPLITS), split)


def _write_split(rows: pd.DataFrame, names: list[str], file: Path) -> None:
    """Write the rows of a split by row groups, of which one is in memory at a time."""
    images = encoded(rows["image"])
    known = [name for name in ("image", "label", *SOFT) if name in rows]
    others = pa.Table.from_pandas(rows.drop(columns=known), preserve_index=False)
    # Pandas has large strings, which the feature types of `datasets` keep apart from plain ones.
    plain = pa.schema([(one.name, _plain(one.type)) for one in others.schema])
    schema = _features(list(rows.columns), names, plain).arrow_schema
    labels = rows["label"].to_numpy(dtype=np.int64)
    start = 0
    with pq.ParquetWriter(file, schema, **_layout(schema)) as writer:
        for contents in _row_groups(images):
            stop = start + len(contents)
            columns = {
                "image": pa.StructArray.from_arrays(
                    [pa.array(contents, pa.binary()), pa.nulls(len(contents), pa.string())],
                    ["bytes", "path"],
                ),
                "label": pa.array(labels[start:stop]),
            }
            for name, kind in SOFT.items():
                if name in rows:
                    part = [_nested(row) for row in rows[name].iloc[start:stop]]
                    columns[name] = pa.array(part, kind)
            part = others.slice(start, len(contents)).cast(plain)
            columns |= {name: part[name] for name in part.column_names}
            table = pa.table({name: columns[name] for name in rows.columns}).cast(schema)
            writer.write_table(table, row_group_size=len(contents))
            start = stop


def _nested(row: Any) -> Any:
    """Return the probabilities of an image, or those of each of its views, as float32."""
    if np.ndim(row[0]) == 0:
        return np.asarray(row, dtype=np.float32)
    return [np.asarray(view, dtype=np.float32) for view in row]


def _row_groups(images: EncodedImages) -> Iterator[list[bytes]]:
    """Yield the images in turn, as many at once as make a row group."""
    contents: list[bytes] = []
    size = 0
    for number, content in enumerate(images):
        if content is None:
            raise TypeError(f"Row {number} has no image.")
        contents.append(content)
        size += len(content)
        if size >= GROUP_BYTES or len(contents) == GROUP_ROWS:
            yield contents
            contents, size = [], 0
    if contents:
        yield contents


def _features(columns: list[str], names: list[str], others: pa.Schema) -> Any:
    """Return the feature types by which `datasets` opens the columns."""
    from datasets import (  # slow to import, and only saving needs it
        ClassLabel,
        Features,
        Image,
        List,
        Value,
    )

    known = {
        "image": Image(),
        "label": ClassLabel(names=names),
        "soft_label": List(Value("float32")),
        "soft_labels": List(List(Value("float32"))),
    }
    inferred = Features.from_arrow_schema(others)
    return Features({name: known.get(name) or inferred[name] for name in columns})


def _layout(schema: pa.Schema) -> dict[str, Any]:
    """Return how the columns are written: PNGs as they are, for they do not get smaller, and all else compressed."""
    leaves = [
        {"soft_label": f"soft_label{LISTED}", "soft_labels": f"soft_labels{LISTED * 2}"}.get(
            name, name
        )
        for name in schema.names
        if name != "image"
    ]
    return {
        "compression": {"image.bytes": "none", "image.path": "zstd"}
        | dict.fromkeys(leaves, "zstd"),
        "use_dictionary": ["image.path", *leaves],
        "write_statistics": leaves,
    }


def _plain(kind: pa.DataType) -> pa.DataType:
    return pa.string() if pa.types.is_large_string(kind) else kind


def _read_split(file: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """Return a split whose images stay in the file until they are read."""
    names = pq.read_schema(file).names
    others = [name for name in columns or names if name != "image"]
    rows = pq.read_table(file, columns=others).to_pandas()
    images = EncodedImages.of(ParquetImages(file), len(rows))
    rows.insert(0 if columns else names.index("image"), "image", images)
    if columns is None:
        rows.insert(1, "split", identity.split_of(file))
    return rows
