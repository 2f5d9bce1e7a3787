"""Files for what does not fit into memory: private, in the project's own folder, and gone with the process.

>>> import tempfile
>>> os.environ["TCKR_SCRATCH"] = tempfile.mkdtemp()
>>> pixels = mapped_array((2, 3), np.uint8)
>>> pixels[1, 2] = 255
>>> int(pixels.sum()), os.listdir(os.environ["TCKR_SCRATCH"])
(255, [])
>>> del os.environ["TCKR_SCRATCH"]
"""

import errno
import os
import tempfile
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tckr.engine.memory import free_memory
from tckr.engine.scratch import VARIABLE
from tckr.errors import UserError

PLACE = (
    "data/02_intermediate/scratch"  # without it, in the folder of the project, where a run works
)
GIB = 1 << 30
SHARE = 0.25  # of the free memory, which one array may fill before it goes to disk
LARGEST = GIB  # what it may fill at most: larger sets then take no more memory than this one


def fits_in_memory(size: int, free: int) -> bool:
    """Return whether an array of `size` bytes is kept in memory, of which `free` bytes are free."""
    return size <= min(SHARE * free, LARGEST)


def scratch_place() -> Path:
    """Return the folder of scratch files, which need not exist yet."""
    return Path(os.environ.get(VARIABLE) or PLACE)


def scratch_file() -> BinaryIO:
    """Return a new file, open for reading and writing, that has no name: no kill can leave it behind.

    Raises:
        UserError: its folder cannot be written to.
    """
    place = scratch_place()
    try:
        try:
            descriptor, name = _make(place)
        except FileNotFoundError:  # another one was the last in the folder, and took it away
            descriptor, name = _make(place)
    except OSError as error:
        raise UserError(
            f"{place} cannot be written to ({error.strerror or error}).",
            f"run in the folder of the project, or name another place with the variable {VARIABLE}.",
        ) from error
    os.unlink(name)
    return os.fdopen(descriptor, "w+b")


def large_array(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return an array to be filled: in memory, or in a scratch file if it exceeds 1 GiB or a quarter of what is free.

    Either way it is used alike. The kernel keeps of the file what there is room for.

    Raises:
        UserError: the disk has no room for it.
    """
    if fits_in_memory(prod(shape) * np.dtype(dtype).itemsize, free_memory()):
        return np.empty(shape, dtype)
    return mapped_array(shape, dtype)


def mapped_array(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return an array of zeros in a scratch file, mapped into memory.

    Raises:
        UserError: the disk has no room for it.
    """
    size = prod(shape) * np.dtype(dtype).itemsize
    with scratch_file() as file:
        try:
            # Reserved before it is mapped: writing to a mapping on a full disk would kill the process.
            _reserve(file.fileno(), size)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise UserError(
                f"There is no room for {size / GIB:,.1f} GiB in {os.environ.get(VARIABLE) or PLACE}.",
                f"free some disk space, or name another place with the variable {VARIABLE}.",
            ) from error
        return np.memmap(file, dtype, "r+", shape=shape)


def _reserve(descriptor: int, size: int) -> None:
    os.ftruncate(descriptor, size)
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)


def _make(place: Path) -> tuple[int, str]:
    if not place.is_dir():
        place.mkdir(parents=True, exist_ok=True)
        place.chmod(0o700)
    return tempfile.mkstemp(prefix=".tckr-", dir=place)  # readable by its owner alone
