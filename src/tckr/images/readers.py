"""Open any source of labelled images: find out its format, and read folders."""

from dataclasses import replace
from pathlib import Path

from tckr.errors import UserError
from tckr.images import groups, layout, lists, places
from tckr.images.arrays import is_idx, read_idx, read_npz
from tckr.images.labels import folder_label, group_name
from tckr.images.options import IngestionOptions
from tckr.images.raw import RawImage, RawTable, find_column, readable
from tckr.images.tabular import read_arrow, read_parquet, read_saved

PARQUET = (".parquet", ".pq")
ARROW = (".arrow", ".feather")
PACKED = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")
ACCEPTED = "a folder per class, .parquet, .arrow, .npz, a folder of IDX files or a .csv of paths and labels"


def read(path: Path, options: IngestionOptions) -> RawTable:
    """Open a source of labelled images; the images are read as `RawTable.images` is iterated.

    Args:
        path: A folder per class (also inside train/, val/, test/, or with people between); Parquet or Arrow with columns
            of images and labels; a folder saved by `datasets`; a MedMNIST-style .npz; a folder of IDX files; a CSV,
            metadata.csv, metadata.jsonl or dataset.json of paths and labels.
        options: Names of columns, the meaning of folders, and the largest image to accept.

    Raises:
        UserError: Nothing is there, the format is unknown or uncertain, a file is damaged, or labels are missing.

    >>> table = read(Path("data/01_raw/fashion_mnist"), IngestionOptions())
    >>> table.format, next(iter(table.images)).label
    ('Parquet', 'Trouser')
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"There is no {path}.", f"point ingestion at {ACCEPTED}.")
    if options.label_pattern is not None and not path.is_dir():
        raise UserError(
            f"{path} is no folder of images, in whose names ingestion.label_pattern could find labels.",
            "leave label_pattern out.",
        )
    table = _read_folder(path, options) if path.is_dir() else _read_file(path, options)
    if table.count == 0:
        raise UserError(f"{path} holds no images.", f"point ingestion at {ACCEPTED}.")
    return groups.named(table, options, path)


def read_folders(tree: places.Tree, options: IngestionOptions) -> RawTable:
    """Read images whose folders say the class, and maybe the split and the person; see `tckr.images.layout`.

    Raises:
        UserError: No images, no class folders, or folders that can be read in more than one way.
    """
    root = tree.root
    if not tree.images:
        packed = any(file.suffix.lower() in PACKED for file in tree.others)
        beside = f" ({tree.sidecars()})" if tree.others else ""
        raise UserError(
            f"No image is in the folder {root}{beside}.",
            f"{'unpack the archive, or ' if packed else ''}put one folder of images per class into it, or point raw_images at another source.",
        )
    folders = [file.parent.relative_to(root).parts for file in tree.images]
    pattern = options.label_pattern
    if pattern is not None:
        levels = layout.splits_above(folders, str(root))
    elif options.folders == "auto":
        levels = layout.find_levels(folders, str(root))
    else:
        levels = tuple(options.folders.split("/"))
    images = []
    for file, folder in zip(tree.images, folders, strict=True):
        parts = layout.parts_of(folder, levels)
        name = readable(file.relative_to(root).as_posix())
        label = (
            parts.get("class") if pattern is None else groups.searched("label", pattern, name, root)
        )
        images.append(
            RawImage(
                name=name,
                content=file,
                label=None if label is None else folder_label(label, str(root)),
                split=places.given_split(parts.get("split"), options.test_split, str(root)),
                group=group_name(parts.get("group"), str(root)),
            )
        )
    if all(image.label is None for image in images):
        raise UserError(
            f"Labels are missing: the images in {root} lie in no class folder.",
            "put them into one folder per class, list them in a CSV with the columns path and label, or say with "
            "ingestion.label_pattern where in its name a file has its label.",
        )
    kind = "folder per class" if levels == ("class",) else f"folders {'/'.join(levels)}"
    kind = kind if pattern is None else "labels in the names of files"
    return RawTable(kind, images, len(images))


def _read_file(path: Path, options: IngestionOptions) -> RawTable:
    suffix = path.suffix.lower()
    if suffix in PARQUET:
        return read_parquet([path], path.parent, options)
    if suffix in ARROW:
        return read_arrow(path, options)
    if suffix == ".npz":
        return read_npz(path, options)
    if suffix in lists.CSV or suffix == ".jsonl":
        return lists.read_listings([lists.read_listing(path)], None, options)
    if suffix == ".json":
        return lists.read_dataset_json(path, options)
    if path.name.lower().endswith((".nii", ".nii.gz")):
        raise UserError(
            f"{path} is a NIfTI volume, which is not read.",
            "save its slices as DICOM or 16-bit PNG into one folder per class (nibabel reads it, Pillow writes PNG).",
        )
    packed = suffix in PACKED
    raise UserError(
        f"{path} is {'an archive' if packed else 'of no known format'}.",
        f"{'unpack it, or ' if packed else ''}use {ACCEPTED}.",
    )


def _read_folder(path: Path, options: IngestionOptions) -> RawTable:
    if options.label_pattern is not None:
        tree = places.scan(path).without_masks()
        table = read_folders(tree, options)
        return replace(
            table, left_out=tuple(note for note in (*tree.left_out, tree.sidecars()) if note)
        )
    files = sorted(
        file for file in path.iterdir() if file.is_file() and not file.name.startswith(".")
    )
    names = {file.name for file in files}
    if options.folders == "auto":
        if names & {"state.json", "dataset_dict.json"}:
            return read_saved(path, options)
        parquet = [file for file in files if file.suffix.lower() in PARQUET]
        # The hub's folders and our own image tables keep their Parquet files in `data/`.
        inner = sorted((path / "data").glob("*")) if (path / "data").is_dir() else []
        parquet += [file for file in inner if file.suffix.lower() in PARQUET]
        if parquet:
            return read_parquet(parquet, path, options)
        if any(is_idx(name) for name in names):
            return read_idx(path, options)
        arrays = [file for file in files if file.suffix.lower() in (".npz", *ARROW)]
        if arrays:
            return _read_file(_only(arrays, path), options)
    tree = places.scan(path)
    table = _read_tree(tree, options)
    notes = [note for note in (*tree.left_out, tree.sidecars()) if note]
    return replace(table, left_out=(*notes, *table.left_out))


def _read_tree(tree: places.Tree, options: IngestionOptions) -> RawTable:
    """Read a folder whose images are listed in a file, or lie in class folders, or in tables further down."""
    found = None
    if options.folders == "auto":
        found = _read_listed(tree, options) or (
            None if tree.images else _read_deeper(tree, options)
        )
    if found:
        return found
    images = tree.without_masks()
    return replace(
        read_folders(images, options), left_out=tuple(images.left_out[len(tree.left_out) :])
    )


def _read_listed(tree: places.Tree, options: IngestionOptions) -> RawTable | None:
    stylegan = [
        file for file in tree.others if file.name == "dataset.json" and _has_labels(file, tree)
    ]
    if stylegan:
        return lists.read_dataset_json(_only(stylegan, tree.root), options)
    metadata = [one for one in tree.others if one.stem == "metadata" and one.suffix in PARQUET]
    if metadata and tree.images:
        return read_parquet(metadata, tree.root, options)
    listings = lists.image_listings(tree, options)
    if listings:
        return lists.read_listings(_one_or_splits(listings, tree, options), tree, options)
    return None


def _read_deeper(tree: places.Tree, options: IngestionOptions) -> RawTable | None:
    """Read tables that lie in sub-folders: those of a single folder, or of folders called like splits."""
    tables = {
        file.parent for file in tree.others if file.suffix.lower() in (*PARQUET, *ARROW, ".npz")
    }
    tables |= {file.parent for file in tree.others if is_idx(file.name)}
    saved = {file.parent for file in tree.others if file.name == "dataset_dict.json"}
    folders = saved or tables
    if not folders:
        csvs = [file for file in tree.others if file.suffix.lower() in lists.CSV]
        return _read_file(_only(csvs, tree.root), options) if csvs else None
    if len(folders) == 1:
        return _read_folder(next(iter(folders)), options)
    parquet = [file for file in tree.others if file.suffix.lower() in PARQUET]
    if all(places.split_word(folder.name) for folder in folders) and parquet:
        above = {folder.parent for folder in folders}
        if len(above) == 1:
            return read_parquet(parquet, tree.root, options)
    raise UserError(
        f"{tree.root} holds tables in several folders "
        f"({places.shown(sorted(str(folder.relative_to(tree.root)) for folder in folders))}).",
        "point ingestion at the one to use.",
    )


def _one_or_splits(
    listings: list[lists.Listing], tree: places.Tree, options: IngestionOptions
) -> list[lists.Listing]:
    """Return the only list, or those of all splits; a list without labels is no split (a competition's test.csv)."""
    if len(listings) == 1:
        return listings
    labelled = [
        one
        for one in listings
        if options.label_column in one.columns
        or find_column(one.columns, None, lists.LABEL_COLUMNS, "label_column", "")
    ]
    if len(labelled) < 2:
        return labelled or listings
    places_of = {one.path.parent for one in labelled}
    divided = len(places_of) == len(labelled) > 1
    called = [places.split_word(one.path.stem) for one in labelled]
    if labelled and (divided or (None not in called and len(set(called)) == len(called))):
        return labelled
    files = sorted(str(one.path.relative_to(tree.root)) for one in listings)
    raise UserError(
        f"{tree.root} holds several tables ({places.shown(files)}).", "name the one to use."
    )


def _only(files: list[Path], root: Path) -> Path:
    if len(files) > 1:
        raise UserError(
            f"{root} holds several tables ({places.shown(file.name for file in files)}).",
            "name the one to use.",
        )
    return files[0]


def _has_labels(file: Path, tree: places.Tree) -> bool:
    """Whether a dataset.json is StyleGAN's: it lies above all images."""
    try:
        start = file.read_text(encoding="utf-8", errors="replace")[:4000]
    except OSError:
        return False
    return '"labels"' in start and all(file.parent in image.parents for image in tree.images)
