"""Open any source of labelled images: find out its format, and read class folders and CSV lists."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from tckr.errors import UserError
from tckr.images.arrays import is_idx, read_idx, read_npz
from tckr.images.options import IngestionOptions
from tckr.images.raw import (
    POOL_NAMES,
    TEST_NAMES,
    RawImage,
    RawTable,
    given_split,
    image_column,
    label_column,
    split_column,
)
from tckr.images.tabular import read_arrow, read_parquet, read_saved

PARQUET = (".parquet", ".pq")
CSV = (".csv", ".tsv")
ACCEPTED = "a folder per class, .parquet, .arrow, .npz, a folder of IDX files or a .csv of paths and labels"


def read(path: Path, options: IngestionOptions) -> RawTable:
    """Open a source of labelled images; the images are read as `RawTable.images` is iterated.

    Args:
        path: A folder per class (also inside train/, val/, test/); Parquet or Arrow with columns of images and labels;
            a folder saved by `datasets`; a MedMNIST-style .npz; a folder of IDX files; a CSV of paths and labels.
        options: Names of columns, and the largest image to accept.

    Raises:
        UserError: Nothing is there, the format is unknown, a file is damaged, or labels are missing.

    >>> table = read(Path("data/01_raw/fashion_mnist"), IngestionOptions())
    >>> table.format, next(iter(table.images)).label
    ('Parquet', 'Trouser')
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"There is no {path}.", f"point ingestion at {ACCEPTED}.")
    table = _read_folder(path, options) if path.is_dir() else _read_file(path, options)
    if table.count == 0:
        raise UserError(f"{path} holds no images.", f"point ingestion at {ACCEPTED}.")
    return table


def read_folders(root: Path) -> RawTable:
    """Read `root/<class>/**` or `root/{train,val,test}/<class>/**`; every visible file is taken for an image.

    Raises:
        UserError: No files, or files but no class folders.
    """
    images = list(_walk(root))
    if not images:
        raise UserError(
            f"No image is in the folder {root}.",
            "put one folder of images per class into it, or point raw_images at another source.",
        )
    if all(image.label is None for image in images):
        raise UserError(
            f"Labels are missing: the images in {root} lie in no class folder.",
            "put them into one folder per class, or list them in a CSV with the columns path and label.",
        )
    return RawTable("folder per class", images, len(images))


def read_csv(path: Path, options: IngestionOptions) -> RawTable:
    """Read a CSV (or TSV) of paths, relative to its folder, and labels.

    Raises:
        UserError: The file is not CSV, has no rows, or lacks a column.
    """
    try:
        with path.open(encoding="utf-8-sig") as stream:
            header = stream.readline()
        # Everything as text: a class "NA" or "01" must stay as it is.
        table = pd.read_csv(
            path,
            sep=max(",;\t", key=header.count),
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
        )
    except (ValueError, OSError) as error:  # parser and encoding errors are ValueErrors
        problem = " ".join(str(error).split())
        raise UserError(
            f"{path} cannot be read as CSV ({problem}).", "save it as UTF-8 with a header line."
        ) from error
    if table.empty:
        raise UserError(
            f"{path} has no rows.", "list one image per row with the columns path and label."
        )
    names = list(table.columns)
    image = image_column(names, options.image_column, str(path))
    label = label_column(names, options.label_column, str(path))
    split = split_column(names, options.split_column, str(path))
    images = [
        RawImage(
            name=file,
            content=path.parent / file if file else None,
            label=name or None,
            split=given_split(part),
        )
        for file, name, part in zip(
            table[image].str.strip(),
            table[label].str.strip(),
            table[split] if split else [""] * len(table),
            strict=True,
        )
    ]
    return RawTable("CSV of paths and labels", images, len(images))


def _read_file(path: Path, options: IngestionOptions) -> RawTable:
    suffix = path.suffix.lower()
    if suffix in PARQUET:
        return read_parquet([path], options)
    if suffix in (".arrow", ".feather"):
        return read_arrow(path, options)
    if suffix == ".npz":
        return read_npz(path, options.max_pixels)
    if suffix in CSV:
        return read_csv(path, options)
    raise UserError(f"{path} is of no known format.", f"use {ACCEPTED}.")


def _read_folder(path: Path, options: IngestionOptions) -> RawTable:
    files = sorted(
        file for file in path.iterdir() if file.is_file() and not file.name.startswith(".")
    )
    names = {file.name for file in files}
    if names & {"state.json", "dataset_dict.json"}:
        return read_saved(path, options)
    # The hub's folders and our own image tables keep their Parquet files in `data/`.
    inner = sorted((path / "data").glob("*")) if (path / "data").is_dir() else []
    parquet = [file for file in files + inner if file.suffix.lower() in PARQUET]
    if parquet:
        return read_parquet(parquet, options)
    if any(is_idx(name) for name in names):
        return read_idx(path, options.max_pixels)
    lists = [file for file in files if file.suffix.lower() in (*CSV, ".npz")]
    if len(lists) > 1:
        raise UserError(
            f"{path} holds several tables ({', '.join(file.name for file in lists)}).",
            "name the one to use.",
        )
    return _read_file(lists[0], options) if lists else read_folders(path)


def _walk(root: Path) -> Iterator[RawImage]:
    parts = _visible_folders(root)
    names = {part.name.lower() for part in parts}
    # "train" and "test" may be classes too: they are splits only if class folders lie inside.
    divided = names <= TEST_NAMES | POOL_NAMES and any(_visible_folders(part) for part in parts)
    for base in parts if divided else [root]:
        split = given_split(base.name) if divided else "pool"
        for file in sorted(base.rglob("*")):
            inner = file.relative_to(base).parts
            if any(part.startswith(".") for part in inner) or file.is_dir():
                continue
            label = inner[0] if len(inner) > 1 else None
            yield RawImage(file.relative_to(root).as_posix(), file, label, split)


def _visible_folders(root: Path) -> list[Path]:
    return sorted(
        child for child in root.iterdir() if child.is_dir() and not child.name.startswith(".")
    )
