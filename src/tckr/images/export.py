"""An image table as files that other tools read: a folder for each class, or tar files (WebDataset)."""

import csv
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from tckr.images.names import folder_names, spreadsheet
from tckr.images.tables import class_names

Format = Literal["folder", "webdataset"]
LABELS, CLASSES = "labels.csv", "classes.json"
SHARD = 10_000  # images in a tar file
NOT_LISTED = (
    "image",
    "soft_label",
    "soft_labels",
    "split",
    "label",
    "class_name",
)  # columns with a place of their own


class Export(NamedTuple):
    """An image table, and the format in which it is to be written."""

    table: pd.DataFrame
    format: Format


def write(export: Export, folder: Path) -> None:
    """Write the images, `labels.csv` (a row for each image) and `classes.json` (a row for each class).

    Args:
        export: a table with the columns image (PNG bytes), split, label and class_name; others are listed too, and
            soft_label (C floats) as `probability_0` and so on.
        folder: that exists and is empty.
    """
    table = export.table
    names = class_names(table)
    folders = folder_names(names)
    writer = {"folder": _write_folders, "webdataset": _write_tars}[export.format]
    with (folder / LABELS).open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file_name", "label", "class_name", *_extra(table)])
        for path, row in writer(table, folders, names, folder):
            rows.writerow(
                [path, row["label"], spreadsheet(row["class_name"]), *_extra_values(row, table)]
            )
    described = [
        {"label": label, "class_name": name, "folder": own}
        for label, (name, own) in enumerate(zip(names, folders, strict=True))
    ]
    text = json.dumps(described, indent=2, ensure_ascii=False)
    (folder / CLASSES).write_text(f"{text}\n", encoding="utf-8", errors="backslashreplace")


def _write_folders(
    table: pd.DataFrame, folders: list[str], names: list[str], folder: Path
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Write `<split>/<class>/<number>.png`; yield the path and the row of each."""
    del names
    for number, row in enumerate(_rows(table)):
        path = f"{row['split']}/{folders[row['label']]}/{number:06d}.png"
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(row["image"])
        yield path, row


def _write_tars(
    table: pd.DataFrame, folders: list[str], names: list[str], folder: Path
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Write `<split>-000000.tar` and so on, with `<number>.png`, `.cls` and `.json` for each image."""
    del folders
    for split, part in table.groupby("split", sort=False):
        for shard, start in enumerate(range(0, len(part), SHARD)):
            file = f"{split}-{shard:06d}.tar"
            with tarfile.open(folder / file, "w") as tar:
                rows = _rows(part.iloc[start : start + SHARD])
                for number, row in enumerate(rows, start):
                    about = {"label": row["label"], "class_name": names[row["label"]]}
                    about |= dict(zip(_extra(part), _extra_values(row, part), strict=True))
                    _add(tar, f"{number:06d}.png", row["image"])
                    _add(tar, f"{number:06d}.cls", str(row["label"]).encode())
                    _add(tar, f"{number:06d}.json", json.dumps(about).encode())
                    yield f"{file}/{number:06d}.png", row


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    about = tarfile.TarInfo(name)  # without owner and time: equal sets make equal files
    about.size = len(content)
    tar.addfile(about, io.BytesIO(content))


def _rows(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield the rows, one image in memory at a time."""
    others = table.drop(columns="image").to_dict("records")
    for image, row in zip(table["image"], others, strict=True):
        yield {**row, "label": int(row["label"]), "image": image}


def _extra(table: pd.DataFrame) -> list[str]:
    """Return the names of the further columns of `labels.csv`."""
    listed = [name for name in table.columns if name not in NOT_LISTED]
    if "soft_label" not in table or table.empty:
        return listed
    return [*listed, *(f"probability_{n}" for n in range(len(table["soft_label"].iloc[0])))]


def _extra_values(row: dict[str, Any], table: pd.DataFrame) -> list[Any]:
    listed = [row[name] for name in table.columns if name not in NOT_LISTED]
    written = [spreadsheet(value) if isinstance(value, str) else value for value in listed]
    if "soft_label" in row:
        written += [round(float(p), 6) for p in np.asarray(row["soft_label"])]
    return [value.item() if isinstance(value, np.generic) else value for value in written]
