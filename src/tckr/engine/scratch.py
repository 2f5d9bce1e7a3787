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
from tckr.errors import UserError

PLACE = "data/02_intermediate/scratch"  # in the folder of the project, where a run has its working directory
SHARE = 0.25  # of the free memory, which one array may fill before it goes to disk
GIB = 1 << 30


def scratch_folder() -> Path:
    """Return the folder of such files, which is made if it is missing; the variable TCKR_SCRATCH names another."""
    folder = Path(os.environ.get("TCKR_SCRATCH") or PLACE)
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
    return folder


def scratch_file() -> BinaryIO:
    """Return a new file, open for reading and writing, that has no name: no kill can leave it behind.

    Raises:
        UserError: the scratch folder cannot be written to.
    """
    try:
        descriptor, name = tempfile.mkstemp(dir=scratch_folder())  # readable by its owner alone
    except OSError as error:
        raise UserError(
            f"{os.environ.get('TCKR_SCRATCH') or PLACE} cannot be written to ({error.strerror or error}).",
            "run in the folder of the project, or name another place with the variable TCKR_SCRATCH.",
        ) from error
    os.unlink(name)
    return os.fdopen(descriptor, "w+b")


def large_array(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return an array to be filled: in memory, or in a scratch file if it exceeds a quarter of the free memory.

    Either way it is used alike. The kernel keeps of the file what there is room for.

    Raises:
        UserError: the disk has no room for it.
    """
    if prod(shape) * np.dtype(dtype).itemsize <= SHARE * free_memory():
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
                f"There is no room for {size / GIB:,.1f} GiB of pixels in {scratch_folder()}.",
                "free some disk space, or name another place with the variable TCKR_SCRATCH.",
            ) from error
        return np.memmap(file, dtype, "r+", shape=shape)


def _reserve(descriptor: int, size: int) -> None:
    os.ftruncate(descriptor, size)
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
