"""Read lists of image files and labels: CSV, metadata.csv and .jsonl beside the images, StyleGAN's dataset.json."""

import base64
import binascii
import csv
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tckr.errors import UserError
from tckr.images.labels import Labels, group_name, reconciled
from tckr.images.options import IngestionOptions
from tckr.images.places import SIGNATURES, Tree, given_split, inside, scan, split_of_place
from tckr.images.raw import (
    IMAGE_COLUMNS,
    LABEL_COLUMNS,
    RawImage,
    RawTable,
    find_column,
    group_column,
    image_column,
    label_column,
    readable,
    split_column,
)

CSV = (".csv", ".tsv")
LONGEST_NAME = 100
LONGEST_PATH = 1000
SHORTEST_BASE64 = 90
SAMPLE = 50
WHOLE_WITH_COMMA = re.compile(r"-?\d+,0+")


@dataclass(frozen=True)
class Listing:
    """A list of images as text.

    Attributes:
        path: The file.
        columns: Names of the columns.
        rows: Text of the cells, as many a row as columns; "" where there is nothing.
    """

    path: Path
    columns: list[str]
    rows: list[list[str]]


def read_listing(path: Path) -> Listing:
    """Read a CSV, TSV or .jsonl file as text: a class "NA" or "01" stays as it is.

    Comma, semicolon, tab, bar, a line `sep=;` before the header, UTF-8 and UTF-16 are understood, and rows that end with more
    commas than the header has.

    Raises:
        UserError: It is neither, has no rows, or a row with more cells than columns.
    """
    try:
        text = path.read_bytes()
        lines = text.decode(_encoding(text))
        columns, rows = _from_jsonl(lines) if path.suffix == ".jsonl" else _from_csv(lines)
    except UserError:
        raise
    except (ValueError, OSError, csv.Error) as error:
        problem = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path} cannot be read as CSV ({problem}).", "save it as UTF-8 with a header line."
        ) from error
    if not rows:
        raise UserError(
            f"{path} has no rows.", "list one image per row with the columns path and label."
        )
    for number, row in enumerate(rows):
        if any(cell.strip() for cell in row[len(columns) :]):
            raise UserError(
                f"{path}: row {number + 1} has {len(row)} cells, the header {len(columns)}.",
                "put text that holds the separator into quotes.",
            )
    width = len(columns)
    return Listing(path, columns, [(row + [""] * width)[:width] for row in rows])


def image_listings(tree: Tree, options: IngestionOptions) -> list[Listing]:
    """Return the lists in a tree that list its images: by the name of a column, or by what a column holds.

    Other CSV files (tables of classes, of people, of results) are not ours to read.
    """
    above = {tree.root, *_common_folders(tree)}
    top = [file for file in tree.others if file.parent in above and file.suffix.lower() in CSV]
    beside = [
        file
        for file in tree.others
        if file.stem.lower() == "metadata" and file.suffix.lower() in (*CSV, ".jsonl")
    ]
    found = []
    for file in dict.fromkeys((*top, *beside)):
        try:
            listing = read_listing(file)
        except UserError:
            if len(top) == 1 and not tree.images:
                raise
            continue
        if _image_column(listing, tree, options):
            found.append(listing)
    return found


def read_listings(
    listings: Sequence[Listing], tree: Tree | None, options: IngestionOptions
) -> RawTable:
    """Turn lists into raw images; a list's split is that of its rows, else of its file, else of its folder.

    Raises:
        UserError: A column is missing, a path leaves the folder, or the lists do not fit together.
    """
    images: list[RawImage] = []
    kinds = []
    for listing in listings:
        labels = Labels(str(listing.path))
        own = _read(listing, labels, tree, options, several=len(listings) > 1)
        found = {image.label for image in own} - {None}
        numbers = all(str(label).isdecimal() for label in found)
        kinds.append(Labels(labels.where, kind="numbers" if numbers else "text"))
        images += own
    if len(listings) > 1:
        reconciled(kinds)
    listed = {image.content for image in images if isinstance(image.content, Path)}
    unlisted = sum(file not in listed for file in tree.images) if tree is not None else 0
    left_out = (f"images that no list names: {unlisted:,}",) if unlisted else ()
    return RawTable("CSV of paths and labels", images, len(images), left_out=left_out)


def read_dataset_json(path: Path, options: IngestionOptions) -> RawTable:
    """Read StyleGAN's dataset.json, `{"labels": [["00000/img0.png", 6], ...]}`.

    Raises:
        UserError: It has no labels, or another form.
    """
    try:
        entries = json.loads(path.read_bytes())["labels"]
        entries = list(entries.items()) if isinstance(entries, Mapping) else entries
        pairs = [(str(name), label) for name, label in entries]
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(
            f"Labels are missing: {path} holds no list of files and labels.",
            "write it again with labels, or set ingestion.folders to class if the folders are the classes.",
        ) from error
    labels, files = Labels(str(path)), Files(path, options)
    images = [RawImage(name, files.find(name), labels(label)) for name, label in pairs]
    return RawTable("dataset.json", images, len(images))


def file_or_pixels(text: str, folder: Path, allow_outside: bool, where: str) -> Path | bytes:
    """Return the file that a table's text names, or the bytes that it holds in base64.

    Raises:
        UserError: The file lies outside the table's folder.
    """
    text = text.partition(",")[2] if text.startswith("data:") else text
    if _decoded(text[:16]).startswith((*SIGNATURES, b"RIFF")) and len(text) > SHORTEST_BASE64:
        return _decoded(text) or b"no image"
    return inside(folder, text, allow_outside, where) if len(text) <= LONGEST_PATH else b"no image"


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _common_folders(tree: Tree) -> list[Path]:
    """Return the folders below the root that hold all images: wrappers."""
    if not tree.images:
        return []
    common = Path(os.path.commonpath([file.parent for file in tree.images]))
    return [common, *common.parents][: len(common.parts) - len(tree.root.parts)]


def _encoding(text: bytes) -> str:
    if text[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    if text[:1] == b"\0" or text[1:2] == b"\0":  # without its mark, the header's first letter tells
        return "utf-16-be" if text[:1] == b"\0" else "utf-16-le"
    return "utf-8-sig"


def _from_csv(text: str) -> tuple[list[str], list[list[str]]]:
    first, _, rest = text.partition("\n")
    if first.lower().startswith("sep="):  # Excel's way to name the separator
        text, separator = rest, first.strip()[4:5]
    else:
        separator = max(",;\t|", key=first.count)
    lines = csv.reader(
        # Not `splitlines`, which ends a line at every sign that Unicode calls a separator.
        io.StringIO(text, newline=""),
        delimiter=separator,
        strict=True,
        skipinitialspace=True,
    )
    rows = [row for row in lines if any(cell.strip() for cell in row)]
    if not rows:
        return [], []
    columns = [name.strip() for name in rows[0]]
    while columns and not columns[-1]:
        columns.pop()
    return columns, rows[1:]


def _from_jsonl(text: str) -> tuple[list[str], list[list[str]]]:
    entries = [json.loads(line) for line in text.split("\n") if line.strip()]
    if not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("a line is no JSON object")
    columns = list(dict.fromkeys(key for entry in entries for key in entry))
    rows = [
        ["" if entry.get(key) is None else str(entry[key]) for key in columns] for entry in entries
    ]
    return columns, rows


def _image_column(listing: Listing, tree: Tree | None, options: IngestionOptions) -> str | None:
    """Return the column of files: the wanted one, one with a usual name, or one whose text names images of the tree."""
    if options.image_column in listing.columns:
        return options.image_column
    usual = find_column(listing.columns, None, IMAGE_COLUMNS, "image_column", str(listing.path))
    if usual or tree is None:
        return usual
    known = {name for file in tree.images for name in (file.name, file.stem)}
    for number, column in enumerate(listing.columns):
        cells = [row[number].strip() for row in listing.rows[:SAMPLE] if row[number].strip()]
        hits = sum(cell.replace("\\", "/").rpartition("/")[2] in known for cell in cells)
        if cells and 2 * hits > len(cells):
            return column
    return None


def _columns(
    listing: Listing, tree: Tree | None, options: IngestionOptions
) -> tuple[int, int, int | None, int | None]:
    """Return the places of the columns of files, labels, splits and groups."""
    columns, where = listing.columns, str(listing.path)
    wanted = options.image_column or _image_column(listing, tree, options)
    image = image_column(columns, wanted, where)
    usual = find_column(columns, None, LABEL_COLUMNS, "label_column", where)
    if tree is not None and tree.images and not options.label_column and usual is None:
        raise UserError(
            f"Labels are missing: {where} lists images, but has no label column (columns: {', '.join(columns)}).",
            "name it with ingestion.label_column, or set ingestion.folders (to class, split/class, ...) to take the "
            "folders for it.",
        )
    label = label_column(columns, options.label_column, where)
    split = split_column(columns, options.split_column, where)
    group = group_column(columns, options.group_column, where)
    return (
        columns.index(image),
        columns.index(label),
        columns.index(split) if split else None,
        columns.index(group) if group else None,
    )


def _read(
    listing: Listing, labels: Labels, tree: Tree | None, options: IngestionOptions, several: bool
) -> list[RawImage]:
    image, label, split, group = _columns(listing, tree, options)
    path, files = listing.path, Files(listing.path, options)
    by_place = ""
    if tree is not None and (several or path.stem == "metadata"):
        by_place = split_of_place(path, tree.root, options.test_split)
    images = []
    told = {row[label].strip() for row in listing.rows} - {""}
    # 0,0 and 1,0 where another sign parts the cells: whole numbers as Excel writes them in most of Europe.
    comma = bool(told) and all(WHOLE_WITH_COMMA.fullmatch(text) for text in told)
    for row in listing.rows:
        file = row[image].strip()
        word = by_place if split is None else row[split]
        images.append(
            RawImage(
                name=readable(file[:LONGEST_NAME]) or f"{path.name}, a row without a file",
                content=files.find(file) if file else None,
                label=labels(row[label].partition(",")[0] if comma else row[label]),
                split=given_split(word, options.test_split, str(path)),
                group=None if group is None else group_name(row[group], str(path)),
            )
        )
    return images


class Files:
    """Finds the files that a table names: as they are, with backslashes, without suffix, or in a sub-folder."""

    def __init__(self, path: Path, options: IngestionOptions) -> None:
        self._list = path
        self._folder = path.parent
        self._allow_outside = options.allow_outside
        self._index: dict[str, list[Path]] | None = None

    def find(self, text: str) -> Path | bytes:
        """Return the file, which may not exist.

        Raises:
            UserError: It lies outside the list's folder, or several files may be meant.
        """
        found = file_or_pixels(text, self._folder, self._allow_outside, str(self._list))
        if isinstance(found, bytes) or found.exists():
            return found
        text = text.replace("\\", "/").removeprefix("./")
        slashed = inside(self._folder, text, self._allow_outside, str(self._list))
        if slashed.exists():
            return slashed
        candidates = self._indexed().get(text, [])
        if len(candidates) > 1:
            raise UserError(
                f"{self._list} names {readable(text)}, which may be {' or '.join(readable(str(one)) for one in candidates[:3])}.",
                "write the path and suffix of each file into the list.",
            )
        return candidates[0] if candidates else slashed

    def _indexed(self) -> dict[str, list[Path]]:
        """Return images by their path without suffix, their name, and their name without suffix."""
        if self._index is None:
            self._index = {}
            for file in scan(self._folder).images:
                path = file.relative_to(self._folder)
                for key in {path.with_suffix("").as_posix(), file.name, file.stem}:
                    self._index.setdefault(key, []).append(file)
        return self._index
