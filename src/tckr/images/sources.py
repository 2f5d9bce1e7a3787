"""Finding out what kind of source a path is, and opening it."""

from pathlib import Path

from tckr.errors import UserError
from tckr.images.arrays import is_idx, read_idx, read_npz
from tckr.images.files import read_csv, read_folders
from tckr.images.options import IngestionOptions
from tckr.images.raw import RawTable
from tckr.images.tabular import read_arrow, read_parquet, read_saved

PARQUET = (".parquet", ".pq")
CSV = (".csv", ".tsv")
ACCEPTED = "a folder per class, .parquet, .arrow, .npz, a folder of IDX files or a .csv of paths and labels"


def read(path: Path, options: IngestionOptions) -> RawTable:
    """Open a source of labelled images; the images are read while `RawTable.images` is iterated.

    Args:
        path: A folder per class (also inside train/, val/, test/); Parquet or Arrow with columns of images and labels;
            a folder saved by `datasets`; a MedMNIST-style .npz; a folder of IDX files; a CSV of paths and labels.
        options: Names of columns, and what to do with doubtful images.

    Raises:
        UserError: Nothing there, an unknown format, a damaged file, or no labels.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"There is no {path}.", f"point ingestion at {ACCEPTED}.")
    table = _read_folder(path, options) if path.is_dir() else _read_file(path, options)
    if table.count == 0:
        raise UserError(f"{path} holds no images.", f"point ingestion at {ACCEPTED}.")
    return table


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
    # `data/` is where the hub's folders, and our own image tables, keep their Parquet files.
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
