"""One reading of places: which files of a folder count, what a split is called, and which paths stay inside."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from tckr.errors import UserError
from tckr.images.labels import is_missing
from tckr.images.raw import GivenSplit, readable

SplitWord = Literal["train", "val", "test"]

SPLIT_WORDS: dict[str, SplitWord] = {
    **dict.fromkeys(("train", "training", "trn", "members", "pool"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "holdout"), "val"),
    **dict.fromkeys(("test", "testing", "tst", "t10k", "eval", "evaluation"), "test"),
}
WORD = re.compile(r"t10k|[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
# In the breast ultrasound images BUSI, "benign (1)_mask_1.png" lies beside "benign (1).png".
MASK = re.compile(r"(.+?)[ _.-](?:masks?|seg|segmentation)(?:[ _-]?\d+)?", re.IGNORECASE)
# Image types that are read by no decoder of ours: counted by name, unlike the text files beside an image.
UNREAD_SUFFIXES = frozenset(
    {".dcm", ".dicom", ".ima", ".svg", ".heic", ".heif", ".jxl", ".nii", ".mha", ".mhd", ".nrrd"}
)
# What files of the formats that are read begin with: an image may have no suffix, or a wrong one.
SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP")


@dataclass
class Tree:
    """The files of a folder.

    Attributes:
        root: The folder.
        images: Files that count as images, sorted by their path.
        others: All other visible files, sorted.
        left_out: Folders and links that were not entered, and empty folders, with the reason.
    """

    root: Path
    images: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def without_masks(self) -> "Tree":
        """Return the tree without masks of its images (`scan_mask.png` beside `scan.png`), which it names as left out."""
        stems = {file.with_suffix("") for file in self.images}
        masks = {file for file in self.images if _original(file) in stems}
        if not masks:
            return self
        note = f"masks of other images: {len(masks):,} (the first is {readable(min(masks).name)})"
        kept = [file for file in self.images if file not in masks]
        return replace(self, images=kept, left_out=[*self.left_out, note])

    def sidecars(self) -> str | None:
        """Say in words which other files there are; None if there are none."""
        kinds = Counter(file.suffix.lower() or "no suffix" for file in self.others)
        if not kinds:
            return None
        kinds_shown = ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items()))
        return f"files that are no images: {readable(kinds_shown)}"


def scan(root: Path) -> Tree:
    """Walk a folder, through links to folders too; hidden files and the resource forks of macOS do not exist for it."""
    tree = Tree(root)
    suffixes = frozenset(Image.registered_extensions()) | UNREAD_SUFFIXES
    for folder, names in _walk(root, tree, frozenset()):
        for name in names:
            path = folder / name
            known = path.suffix.lower() in suffixes or path.name.lower().endswith(".nii.gz")
            if not known and not os.path.exists(path):  # maybe a class, on a disk that is not there
                where = readable(path.relative_to(root).as_posix())
                tree.left_out.append(f"{where}, a link that leads nowhere")
                continue
            (tree.images if known or _begins_like_an_image(path) else tree.others).append(path)
    tree.images.sort(key=lambda path: path.parts)
    tree.others.sort(key=lambda path: path.parts)
    return tree


def split_word(text: Any) -> SplitWord | None:
    """Return what a split's name means by its last word that says so; None if no word does.

    >>> split_word("training_set"), split_word("PublicTest"), split_word("emnist-train-test"), split_word("latest")
    ('train', 'test', 'test', None)
    """
    words = [word.lower() for word in WORD.findall(str(text))]
    return next((SPLIT_WORDS[word] for word in reversed(words) if word in SPLIT_WORDS), None)


def split_of_place(file: Path, root: Path, test_split: str | None) -> str:
    """Return what names the split of a file: its own name, or that of the nearest folder called like one; "" if none.

    >>> split_of_place(Path("/set/test/metadata.csv"), Path("/set"), None)
    'test'
    """
    above = file.parent.relative_to(root).parts if file.is_relative_to(root) else ()
    for name in (file.stem, *reversed(above)):
        if name == test_split or (test_split is None and split_word(name)):
            return name
    return ""


def is_split_name(text: str) -> bool:
    """Whether a name says nothing but a split.

    >>> is_split_name("Test"), is_split_name("test tube")
    (True, False)
    """
    words = [word.lower() for word in WORD.findall(text)]
    return bool(words) and all(word in SPLIT_WORDS for word in words)


def given_split(value: Any, test_split: str | None, where: str) -> GivenSplit:
    """Return "test" if that is what a source's name of a split means, else "pool"; no name at all is the pool.

    Args:
        value: The name.
        test_split: `ingestion.test_split`: the only name that means the test split.
        where: For messages.

    Raises:
        UserError: The name says neither train, val nor test.

    >>> given_split("Testing", None, ""), given_split("val", None, ""), given_split(None, None, "")
    ('test', 'pool', 'pool')
    """
    text = "" if is_missing(value) else str(value).strip()
    if isinstance(value, bytes):
        text = value.decode("utf-8", "replace").strip()
    if test_split is not None:
        return "test" if text == test_split else "pool"
    if not text:
        return "pool"
    word = split_word(text)
    if word is None:
        raise UserError(
            f"{where} has the split {text[:40]!r}, which says neither train, val nor test.",
            "name the one that is the test split with ingestion.test_split (any other word, such as none, draws a new "
            "test split).",
        )
    return "test" if word == "test" else "pool"


def inside(folder: Path, path: str, allow_outside: bool, where: str) -> Path:
    """Return a file that a list names, relative to the list's folder.

    Raises:
        UserError: It lies outside that folder, and `allow_outside` is off.

    >>> inside(Path("/set"), "a/../b.png", False, "list.csv")
    PosixPath('/set/b.png')
    """
    base = os.path.abspath(folder)
    full = os.path.normpath(os.path.join(base, path))
    if not allow_outside and full != base and not full.startswith(base.rstrip(os.sep) + os.sep):
        raise UserError(
            f"{where} names the file {readable(path)[:80]}, which is outside the folder {folder}.",
            "set ingestion.allow_outside to true if that is meant.",
        )
    # The folder as the user wrote it, unless the path leaves it.
    return Path(full) if allow_outside else folder / os.path.relpath(full, base)


def shown(names: Iterable[str], most: int = 6) -> str:
    """List a few names for a message.

    >>> shown("abcdefgh")
    'a, b, c, d, e, f, ... (8)'
    """
    names = [readable(name) for name in names]
    return ", ".join(names[:most]) + (f", ... ({len(names)})" if len(names) > most else "")


def _walk(
    folder: Path, tree: Tree, above: frozenset[tuple[int, int]]
) -> Iterator[tuple[Path, list[str]]]:
    where = readable(folder.relative_to(tree.root).as_posix())
    try:
        status = folder.stat()
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            tree.left_out.append(f"{where}, a link to a folder above it")
            return
        with os.scandir(folder) as entries:
            visible = sorted(
                (one for one in entries if not _litter(one.name)), key=lambda e: e.name
            )
    except OSError as error:
        tree.left_out.append(f"{where}, which cannot be read ({error.strerror})")
        return
    folders = [entry.name for entry in visible if _is_folder(entry)]
    files = [entry.name for entry in visible if entry.name not in set(folders)]
    if not visible and folder != tree.root:
        tree.left_out.append(f"{where}, an empty folder")
    yield folder, files
    for name in folders:
        yield from _walk(folder / name, tree, above | {identity})


def _original(file: Path) -> Path | None:
    """Return the image, without suffix, whose mask a file is by its name; None if it is none."""
    found = MASK.fullmatch(file.stem)
    return file.parent / found[1] if found else None


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _litter(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _begins_like_an_image(path: Path) -> bool:
    try:
        # A pipe would wait for its writer.
        if not path.is_file():
            return False
        with path.open("rb") as stream:
            start = stream.read(132)
    except OSError:
        return False
    if start.startswith(
        b"BM"
    ):  # two letters say little: the header's size of the file must be there
        return len(start) > 26 and int.from_bytes(start[2:6], "little") == path.stat().st_size
    webp = start[:4] == b"RIFF" and start[8:12] == b"WEBP"
    return start.startswith(SIGNATURES) or webp or start[128:] == b"DICM"
