"""Read pixel arrays, MedMNIST-style .npz and IDX (.gz), streamed row by row and checked before they are unpacked."""

import gzip
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np

from tckr.errors import UserError
from tckr.images.labels import Kind, Labels, reconciled
from tckr.images.options import IngestionOptions
from tckr.images.places import given_split, split_word
from tckr.images.raw import Again, RawImage, RawTable

NPZ_KEYS = (
    ("train_images", "train_labels", "train"),
    ("val_images", "val_labels", "val"),
    ("test_images", "test_labels", "test"),
    ("x_train", "y_train", "train"),
    ("x_test", "y_test", "test"),
    ("images", "labels", "pool"),
)
IDX_NAME = re.compile(r"^(?P<split>.+?)[-.]images[-.]idx3[-.]ubyte(?P<gz>\.gz)?$")
IDX_IMAGES, IDX_LABELS = 0x00000803, 0x00000801

MOST_CHANNELS = 4
LONGEST_LABEL = 4096
# No image compresses like this, but zeros do: a few kilobytes become gigabytes.
LARGE, MOST_EXPANSION = 2**30, 200


def check_expansion(where: str, compressed: int, expanded: int) -> None:
    """Refuse content that would expand as no images do.

    Args:
        where: For the message.
        compressed: Bytes in the file.
        expanded: Bytes in memory, as the file's header declares.

    Raises:
        UserError: It expands to more than a gigabyte, and more than 200-fold.
    """
    if expanded > LARGE and expanded > MOST_EXPANSION * compressed:
        raise UserError(
            f"{where} would expand from {compressed:,} to {expanded:,} bytes, as no images do.",
            "save it uncompressed if that is right.",
        )


def is_idx(name: str) -> bool:
    """Whether a file is named like the images of an IDX set.

    >>> is_idx("train-images-idx3-ubyte.gz"), is_idx("train-labels-idx1-ubyte.gz")
    (True, False)
    """
    return IDX_NAME.match(name) is not None


def read_npz(path: Path, options: IngestionOptions) -> RawTable:
    """Read a MedMNIST-style archive: {train,val,test}_{images,labels}; also x_train/y_train and images/labels.

    Raises:
        UserError: Damaged, without images or labels, with several labels per image, or larger than it may be.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            keys = {name.removesuffix(".npy") for name in archive.namelist()}
            found = [part for part in NPZ_KEYS if part[0] in keys]
            if not found:
                raise UserError(
                    f"{path} holds no images (arrays: {', '.join(sorted(keys)) or 'none'}).",
                    "name the arrays train_images, train_labels, test_images, test_labels.",
                )
            parts = [_npz_part(archive, path, *part, keys, options.max_pixels) for part in found]
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{path} is no .npz archive or damaged ({error}).", "fetch the file again."
        ) from error
    _refuse_column(options, path)

    def images() -> Iterator[RawImage]:
        for part in parts:
            split = given_split(part.split, None, str(path))
            rows = zip(_npz_rows(path, part.images), _npz_rows(path, part.labels), strict=True)
            for row, (pixels, label) in enumerate(rows):
                yield RawImage(
                    f"{part.images.key}[{row}]", pixels, part.read(label.reshape(-1)[0]), split
                )

    reconciled([part.read for part in parts])
    eight_bits = all(part.images.dtype == np.uint8 for part in parts)
    count = sum(part.images.shape[0] for part in parts)
    return RawTable("npz", Again(images), count, eight_bits=eight_bits)


def read_idx(folder: Path, options: IngestionOptions) -> RawTable:
    """Read the IDX files of a folder: <split>-images-idx3-ubyte(.gz) beside <split>-labels-idx1-ubyte(.gz).

    A .gz beside its unpacked file is left out.

    Raises:
        UserError: A label file is missing, a header is wrong, or counts differ.
    """
    everything = sorted(file for file in folder.iterdir() if is_idx(file.name))
    names = {file.name for file in everything}
    packed = [one for one in everything if one.suffix == ".gz" and one.name[:-3] in names]
    files = [file for file in everything if file not in packed]
    counts = [_idx_count(file, options.max_pixels) for file in files]
    _refuse_column(options, folder)

    def images() -> Iterator[RawImage]:
        for file, count in zip(files, counts, strict=True):
            name = IDX_NAME.match(file.name)["split"]  # type: ignore[index]
            known = options.test_split or split_word(name)
            split = given_split(name if known else "", options.test_split, str(file))
            read = Labels(str(_idx_labels(file)))
            labels = _idx_rows(_idx_labels(file), IDX_LABELS, count)
            for row, pixels in enumerate(_idx_rows(file, IDX_IMAGES, count)):
                label = read(int(next(labels)))
                yield RawImage(f"{file.name}, image {row}", pixels, label, split)

    left_out = tuple(f"{file.name}, packed beside its unpacked file" for file in packed)
    return RawTable("IDX", Again(images), sum(counts), left_out=left_out, eight_bits=True)


@dataclass(frozen=True)
class _Array:
    """The header of one array of an archive."""

    key: str
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype


@dataclass(frozen=True)
class _Part:
    """Images and labels of one split."""

    images: _Array
    labels: _Array
    split: str
    read: Labels


def _npz_part(
    archive: zipfile.ZipFile,
    path: Path,
    key: str,
    label_key: str,
    split: str,
    keys: set[str],
    max_pixels: int,
) -> _Part:
    """Read and check the headers of two arrays; nothing is unpacked."""
    if label_key not in keys:
        raise UserError(
            f"Labels are missing: {path} has no array {label_key}.",
            f"add {label_key} to the archive.",
        )
    images, labels = _npz_array(archive, path, key), _npz_array(archive, path, label_key)
    height_width = prod(sorted(images.shape[1:])[-2:])
    _check_size(f"{path}: {key}", height_width, max_pixels)
    if prod(images.shape[1:]) > MOST_CHANNELS * max(height_width, 1):
        raise UserError(
            f"{path}: {key} has the shape {images.shape}, which is none of images.",
            "give (N, H, W), (N, H, W, C) or (N, C, H, W), with 1, 3 or 4 channels.",
        )
    if images.shape[0] != labels.shape[0]:
        raise UserError(
            f"{path}: {key} has {images.shape[0]} rows, {label_key} {labels.shape[0]}.",
            "make them agree.",
        )
    if prod(labels.shape[1:]) != 1:
        raise UserError(
            f"{path}: {label_key} has shape {labels.shape}, several labels an image.",
            "keep one label per image.",
        )
    if labels.dtype.itemsize > LONGEST_LABEL:
        raise UserError(f"{path}: {label_key} has labels of {labels.dtype}.", "shorten them.")
    kind: Kind = "numbers" if labels.dtype.kind in "iuf" else "text"
    return _Part(images, labels, split, Labels(f"{path}: {label_key}", kind=kind))


def _npz_array(archive: zipfile.ZipFile, path: Path, key: str) -> _Array:
    info = archive.getinfo(f"{key}.npy")
    with archive.open(info) as stream:
        version = np.lib.format.read_magic(stream)
        reader = np.lib.format.read_array_header_1_0
        reader = reader if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = reader(stream)
    if dtype.hasobject or not shape:
        raise UserError(f"{path}: {key} is no array of numbers.", "save it as a plain uint8 array.")
    expanded = dtype.itemsize * prod(shape)
    if expanded > info.file_size:
        raise UserError(f"{path}: {key} is shorter than its header says.", "fetch the file again.")
    check_expansion(f"{path}: {key}", info.compress_size, expanded)
    return _Array(key, shape, fortran, dtype)


def _npz_rows(path: Path, array: _Array) -> Iterator[np.ndarray]:
    """Yield the rows of one array without loading all of it."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{array.key}.npy") as stream:
        if array.fortran and len(array.shape) > 1:
            # Rows are not contiguous: it must be loaded whole.
            yield from np.lib.format.read_array(stream, allow_pickle=False)
            return
        _npz_skip_header(stream)
        row_bytes = array.dtype.itemsize * prod(array.shape[1:])
        for row in range(array.shape[0]):
            content = _exactly(stream, row_bytes, f"{path}: {array.key}", row, array.shape[0])
            yield np.frombuffer(content, array.dtype).reshape(array.shape[1:])


def _npz_skip_header(stream: IO[bytes]) -> None:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        np.lib.format.read_array_header_1_0(stream)
    else:
        np.lib.format.read_array_header_2_0(stream)


def _check_size(where: str, pixels: int, max_pixels: int) -> None:
    if pixels > max_pixels:
        raise UserError(
            f"{where} declares images of {pixels:,} pixels, over max_pixels = {max_pixels:,}.",
            "raise ingestion.max_pixels if that is right.",
        )


def _refuse_column(options: IngestionOptions, path: Path) -> None:
    if options.group_column:
        raise UserError(
            f"{path} has no columns, and so no {options.group_column!r}.",
            "use ingestion.group_pattern, or another format.",
        )


def _idx_labels(images: Path) -> Path:
    name = images.name.replace("images", "labels").replace("idx3", "idx1")
    path = images.with_name(name)
    if not path.exists():
        raise UserError(f"Labels are missing: {path} is not there.", "put it beside the images.")
    return path


def _idx_count(images: Path, max_pixels: int) -> int:
    """Return the number of images, after the headers of both files have been checked."""
    labels = _idx_labels(images)
    with _idx_open(labels) as stream:
        (count,) = _idx_header(stream, labels, IDX_LABELS)
    with _idx_open(images) as stream:
        declared, height, width = _idx_header(stream, images, IDX_IMAGES)
    _check_size(str(images), height * width, max_pixels)
    if declared != count:
        raise UserError(
            f"{images} has {declared} images, {labels.name} {count} labels.",
            "fetch both files again.",
        )
    check_expansion(str(images), images.stat().st_size, count * height * width)
    check_expansion(str(labels), labels.stat().st_size, count)
    return count


def _idx_rows(path: Path, magic: int, count: int) -> Iterator[np.ndarray]:
    with _idx_open(path) as stream:
        _, *shape = _idx_header(stream, path, magic)
        for row in range(count):
            content = _exactly(stream, prod(shape), str(path), row, count)
            yield np.frombuffer(content, np.uint8).reshape(shape)


def _idx_open(path: Path) -> Any:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _idx_header(stream: IO[bytes], path: Path, magic: int) -> tuple[int, ...]:
    dimensions = magic & 0xFF
    content = _exactly(stream, 4 * (1 + dimensions), str(path), 0, 0)
    values = np.frombuffer(content, ">u4")
    if values[0] != magic:
        raise UserError(
            f"{path} is no IDX file (it begins with {values[0]:#010x}).", "fetch the file again."
        )
    return tuple(int(value) for value in values[1:])


def _exactly(stream: IO[bytes], size: int, where: str, row: int, count: int) -> bytes:
    """Read exactly `size` bytes; a header may claim more than there are."""
    try:
        content = stream.read(size)
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise UserError(
            f"{where} is damaged or truncated ({error}).", "fetch the file again."
        ) from error
    if len(content) < size:
        raise UserError(
            f"{where} is truncated: it ends after {row} of {count} images.", "fetch the file again."
        )
    return content
