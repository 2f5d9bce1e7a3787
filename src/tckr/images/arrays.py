"""Read pixel arrays, MedMNIST-style .npz and IDX (.gz), streamed row by row."""

import gzip
import re
import zipfile
import zlib
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np

from tckr.errors import UserError
from tckr.images.raw import RawImage, RawTable, given_split

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


def is_idx(name: str) -> bool:
    """Whether a file is named like the images of an IDX set.

    >>> is_idx("train-images-idx3-ubyte.gz"), is_idx("train-labels-idx1-ubyte.gz")
    (True, False)
    """
    return IDX_NAME.match(name) is not None


def read_npz(path: Path, max_pixels: int) -> RawTable:
    """Read a MedMNIST-style archive: {train,val,test}_{images,labels}; also x_train/y_train and images/labels.

    Raises:
        UserError: Damaged, without images or labels, or with several labels per image.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            keys = {name.removesuffix(".npy") for name in archive.namelist()}
            parts = [part for part in NPZ_KEYS if part[0] in keys]
            if not parts:
                raise UserError(
                    f"{path} holds no images (arrays: {', '.join(sorted(keys)) or 'none'}).",
                    "name the arrays train_images, train_labels, test_images, test_labels.",
                )
            labels = [_npz_labels(archive, path, part[1], keys) for part in parts]
            shapes = [_npz_header(archive, path, part[0])[0] for part in parts]
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{path} is no .npz archive or damaged ({error}).", "fetch the file again."
        ) from error
    for part, shape, found in zip(parts, shapes, labels, strict=True):
        _check_size(f"{path}: {part[0]}", prod(shape[1:3]), max_pixels)
        if shape[0] != len(found):
            raise UserError(
                f"{path}: {part[0]} has {shape[0]} rows, {part[1]} {len(found)}.",
                "make them agree.",
            )

    def images() -> Iterator[RawImage]:
        for (key, _, split), found in zip(parts, labels, strict=True):
            for row, pixels in enumerate(_npz_rows(path, key)):
                yield RawImage(f"{key}[{row}]", pixels, str(found[row]), given_split(split))

    return RawTable("npz", images(), sum(shape[0] for shape in shapes))


def read_idx(folder: Path, max_pixels: int) -> RawTable:
    """Read the IDX files of a folder: <split>-images-idx3-ubyte(.gz) beside <split>-labels-idx1-ubyte(.gz).

    Raises:
        UserError: A label file is missing, a header is wrong, or counts differ.
    """
    files = sorted(file for file in folder.iterdir() if is_idx(file.name))
    labels = [_idx_labels(file, max_pixels) for file in files]

    def images() -> Iterator[RawImage]:
        for file, found in zip(files, labels, strict=True):
            split = given_split(IDX_NAME.match(file.name)["split"])  # type: ignore[index]
            for row, pixels in enumerate(_idx_rows(file, len(found))):
                yield RawImage(f"{file.name}, image {row}", pixels, str(found[row]), split)

    return RawTable("IDX", images(), sum(len(found) for found in labels))


def _npz_header(
    archive: zipfile.ZipFile, path: Path, key: str
) -> tuple[tuple[int, ...], bool, np.dtype]:
    with archive.open(f"{key}.npy") as stream:
        shape, fortran, dtype = _read_header(stream)
    if dtype.hasobject or not shape:
        raise UserError(f"{path}: {key} is no array of numbers.", "save it as a plain uint8 array.")
    if dtype.itemsize * prod(shape) > archive.getinfo(f"{key}.npy").file_size:
        raise UserError(f"{path}: {key} is shorter than its header says.", "fetch the file again.")
    return shape, fortran, dtype


def _check_size(where: str, pixels: int, max_pixels: int) -> None:
    if pixels > max_pixels:
        raise UserError(
            f"{where} declares images of {pixels:,} pixels, over max_pixels = {max_pixels:,}.",
            "raise ingestion.max_pixels if that is right.",
        )


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    return np.lib.format.read_array_header_2_0(stream)


def _npz_labels(archive: zipfile.ZipFile, path: Path, key: str, keys: set[str]) -> np.ndarray:
    if key not in keys:
        raise UserError(
            f"Labels are missing: {path} has no array {key}.", f"add {key} to the archive."
        )
    _npz_header(archive, path, key)
    with archive.open(f"{key}.npy") as stream:
        labels = np.lib.format.read_array(stream, allow_pickle=False)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise UserError(
            f"{path}: {key} has shape {labels.shape}, several labels an image.",
            "keep one label per image.",
        )
    if labels.dtype.kind == "f" and (labels == np.floor(labels)).all():
        labels = labels.astype(np.int64)
    return labels


def _npz_rows(path: Path, key: str) -> Iterator[np.ndarray]:
    """Yield the rows of one array without loading all of it."""
    with zipfile.ZipFile(path) as archive:
        shape, fortran, dtype = _npz_header(archive, path, key)
        with archive.open(f"{key}.npy") as stream:
            if fortran:  # rows are not contiguous: it must be loaded whole
                yield from np.lib.format.read_array(stream, allow_pickle=False)
                return
            _read_header(stream)
            row_bytes = dtype.itemsize * prod(shape[1:])
            for row in range(shape[0]):
                content = _exactly(stream, row_bytes, f"{path}: {key}", row, shape[0])
                yield np.frombuffer(content, dtype).reshape(shape[1:])


def _idx_labels(images: Path, max_pixels: int) -> np.ndarray:
    name = images.name.replace("images", "labels").replace("idx3", "idx1")
    path = images.with_name(name)
    if not path.exists():
        raise UserError(f"Labels are missing: {path} is not there.", "put it beside the images.")
    with _idx_open(path) as stream:
        (count,) = _idx_header(stream, path, IDX_LABELS)
        labels = np.frombuffer(_exactly(stream, count, str(path), 0, count), np.uint8)
    with _idx_open(images) as stream:
        declared, height, width = _idx_header(stream, images, IDX_IMAGES)
    _check_size(str(images), height * width, max_pixels)
    if declared != count:
        raise UserError(
            f"{images} has {declared} images, {path.name} {count} labels.",
            "fetch both files again.",
        )
    return labels


def _idx_rows(path: Path, count: int) -> Iterator[np.ndarray]:
    with _idx_open(path) as stream:
        _, height, width = _idx_header(stream, path, IDX_IMAGES)
        for row in range(count):
            content = _exactly(stream, height * width, str(path), row, count)
            yield np.frombuffer(content, np.uint8).reshape(height, width)


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
