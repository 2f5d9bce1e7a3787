"""Images that take long to make, kept as they come, so that the same work goes on where it was killed."""

import fcntl
import os
import shutil
import uuid
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from tckr.images.encoded import EncodedImages
from tckr.images.stores import Heap

IMAGES, INDEX, LOCK = "images.bin", "index.bin", "lock"
FILES = (IMAGES, INDEX, LOCK)
RECORD = np.dtype([("size", "<u4"), ("crc", "<u4"), ("image_id", "S16")])  # 24 bytes for each image


class Unfinished:
    """A list of images that grows in a file, to be found again in a folder that bears the name of the work.

    An image counts once its record is in the index; what a kill or a power cut left half written is cut off.

    Attributes:
        folder: where they are kept; None for a file without a name, which nobody finds again.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Open the folder of this work, and what is there of it.

        A second process that does the same work at the same time gets a folder of its own.

        Args:
            folder: of this work alone, named by its content hash; it is made if it is missing.
        """
        self.folder = folder
        self._ids: list[str] = []
        if folder is None:
            self._heap, self._index = Heap(), None
            return
        self.folder, self._lock = _locked(folder)
        images = _private(self.folder / IMAGES)
        self._index = _private(self.folder / INDEX)
        records = _whole(images, self._index)
        self._ids = [name.decode() for name in records["image_id"]]
        ends = np.cumsum(records["size"], dtype=np.int64)
        self._heap = Heap(images, ends.tolist(), self.folder / IMAGES)

    def __len__(self) -> int:
        return len(self._heap)

    def append(self, image_ids: Sequence[str], images: Sequence[bytes]) -> None:
        """Keep some images: first them, then their records.

        Args:
            image_ids: see `tckr.images.prepare.image_id`.
            images: encoded.
        """
        records = np.array(
            [
                (len(image), zlib.crc32(image), name.encode())
                for name, image in zip(image_ids, images, strict=True)
            ],
            RECORD,
        )
        for image in images:
            self._heap.append(image)
        self._heap.flush()
        self._ids += image_ids
        if self._index is not None:
            self._index.write(records.tobytes())
            self._index.flush()

    @property
    def image_ids(self) -> list[str]:
        """Return the ids of all images so far."""
        return self._ids

    @property
    def images(self) -> EncodedImages:
        """Return the column of all images so far."""
        return EncodedImages.of(self._heap, len(self._heap))


def forget(folder: Path) -> None:
    """Remove the images of finished work, then its folder unless it holds anything else."""
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):  # not empty, or not there
        folder.rmdir()


def _locked(folder: Path) -> tuple[Path, BinaryIO]:
    """Return the folder, or one beside it if another process is at work in it, and the lock on it.

    The lock ends with the process, however that ends; what others left beside a folder is removed with it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = _lock(folder)
    if lock is None:
        own = folder.with_name(f"{folder.name}-{uuid.uuid4().hex[:8]}")
        lock = _lock(own)
        assert lock is not None
        return own, lock
    for other in folder.parent.glob(f"{folder.name}-*"):
        left = _lock(other)
        if left is not None:
            shutil.rmtree(other)
            left.close()
    return folder, lock


def _lock(folder: Path) -> BinaryIO | None:
    """Return the lock on a folder, which is made if it is missing; None if another process has it."""
    while True:
        folder.mkdir(mode=0o700, exist_ok=True)
        with suppress(
            FileNotFoundError
        ):  # another process has finished the same work and removed the folder
            file = _private(folder / LOCK)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                return None
            if (folder / LOCK).stat().st_ino == os.fstat(file.fileno()).st_ino:
                return file
            file.close()


def _private(path: Path) -> BinaryIO:
    """Open a file to read and to write at its end, readable by its owner alone."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+b")


def _whole(images: BinaryIO, index: BinaryIO) -> NDArray[np.void]:
    """Return the records whose images are there, up to the first that is not, and cut both files behind them."""
    written = os.fstat(index.fileno()).st_size // RECORD.itemsize
    records = np.frombuffer(index.read(written * RECORD.itemsize), RECORD)
    good = end = 0
    for size, crc in zip(records["size"].tolist(), records["crc"].tolist(), strict=True):
        content = images.read(size)
        if len(content) < size or zlib.crc32(content) != crc:
            break
        good, end = good + 1, end + size
    images.truncate(end)
    index.truncate(good * RECORD.itemsize)
    images.seek(0, os.SEEK_END)
    index.seek(0, os.SEEK_END)
    return records[:good]
