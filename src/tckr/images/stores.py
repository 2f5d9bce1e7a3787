"""Where encoded images lie: in memory, one after the other in a file, or in the row groups of a Parquet file.

Every store returns the images of any rows; what is read from a file is not kept, but for the few row groups read last.
"""

import os
import threading
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tckr.engine.mapped import scratch_file
from tckr.errors import UserError

Rows = NDArray[np.int64]

COLUMN = "image"  # in Parquet: a struct of bytes and path, as `datasets` stores images
ROOM = 64 << 20  # bytes of row groups that are kept in memory, of all files together


class Store(Protocol):
    """Encoded images by their rows."""

    @property
    def named(self) -> bool:
        """Whether another process can open it: it is pickled as a path then, otherwise as images."""

    def read(self, rows: Rows) -> list[bytes]:
        """Return the images of these rows, int64 (n,), in their order."""


@dataclass(frozen=True, eq=False)
class Held:
    """Images in memory."""

    images: Sequence[bytes]
    named = False

    def read(self, rows: Rows) -> list[bytes]:
        """Return the images of these rows."""
        return [self.images[row] for row in rows.tolist()]


class Heap:
    """Images one after the other in a file, written as they come and read at any time.

    >>> import tempfile
    >>> heap = Heap(tempfile.TemporaryFile())
    >>> heap.append(b"first"), heap.append(b"second")
    (0, 1)
    >>> heap.read(np.array([1, 0]))
    [b'second', b'first']
    """

    def __init__(
        self, file: BinaryIO | None = None, ends: Sequence[int] = (), path: Path | None = None
    ) -> None:
        """Hold a file.

        Args:
            file: open for reading, and for writing at its end; a scratch file by default.
            ends: int, where each of its images ends, bytes.
            path: of the file, for other processes.
        """
        self._file = scratch_file() if file is None else file
        self._ends = array("q", [0, *ends])
        self._path = path
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __reduce__(self) -> tuple[Any, ...]:
        return _opened_heap, (self._path, self._ends[1:])

    @property
    def named(self) -> bool:
        """Whether another process can open it."""
        return self._path is not None

    def append(self, content: bytes) -> int:
        """Write an image and return its row."""
        self._file.write(content)
        self._ends.append(self._ends[-1] + len(content))
        return len(self) - 1

    def flush(self) -> None:
        """Hand everything written to the operating system."""
        with self._lock:
            self._file.flush()

    def read(self, rows: Rows) -> list[bytes]:
        """Return the images of these rows."""
        if self._file.writable():
            self.flush()
        return [self._one(row) for row in rows.tolist()]

    def _one(self, row: int) -> bytes:
        begin, end = self._ends[row], self._ends[row + 1]
        content = os.pread(self._file.fileno(), end - begin, begin)
        if len(content) < end - begin:
            raise UserError(
                f"{self._path or 'A scratch file'} ends before its image {row:,}.",
                "remove it and run the same command again.",
            )
        return content


def _opened_heap(path: Path, ends: Sequence[int]) -> Heap:
    return Heap(path.open("rb"), ends, path)


class ParquetImages:
    """The column of images of a Parquet file, mapped into memory and read by row groups."""

    named = True

    def __init__(self, path: Path, mark: tuple[int, int] | None = None) -> None:
        """Open a file.

        Args:
            path: the file.
            mark: size and time of change that it must still have.

        Raises:
            UserError: it was changed or removed since.
        """
        self._path = Path(path)
        found = self._path.stat() if mark is None or self._path.exists() else None
        self._mark = (-1, -1) if found is None else (found.st_size, found.st_mtime_ns)
        if mark is not None and mark != self._mark:
            raise UserError(
                f"{path} was changed or removed while it was in use.", "run the same command again."
            )
        # Open as long as its images are in use: another file under this name does not change them.
        self._file = pq.ParquetFile(self._path, memory_map=True)
        groups = range(self._file.metadata.num_row_groups)
        sizes = [self._file.metadata.row_group(group).num_rows for group in groups]
        self._starts = np.cumsum([0, *sizes], dtype=np.int64)

    @property
    def path(self) -> Path:
        """Where the file lies."""
        return self._path

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._path, self._mark)

    def read(self, rows: Rows) -> list[bytes]:
        """Return the images of these rows; neighbours cost one reading of their row group."""
        groups = np.searchsorted(self._starts, rows, side="right") - 1
        places = (rows - self._starts[groups]).tolist()
        found: list[bytes] = []
        for group, several in groupby(zip(groups.tolist(), places, strict=True), itemgetter(0)):
            column = _RECENT.group(self, group)
            found += [column[place].as_py() for _, place in several]
        return found

    def read_group(self, group: int) -> pa.ChunkedArray:
        """Return the images of a row group."""
        struct = self._file.read_row_group(group, columns=[f"{COLUMN}.bytes"])[COLUMN]
        return pa.chunked_array([part.field("bytes") for part in struct.chunks])


class _Recent:
    """The row groups read last, of all files."""

    def __init__(self) -> None:
        # An entry keeps its file, so that no other gets its id.
        self._groups: OrderedDict[tuple[int, int], tuple[ParquetImages, pa.ChunkedArray, int]] = (
            OrderedDict()
        )
        self._size = 0
        self._lock = threading.Lock()

    def group(self, images: ParquetImages, number: int) -> pa.ChunkedArray:
        key = (id(images), number)
        with self._lock:
            if key not in self._groups:
                column = images.read_group(number)
                self._groups[key] = (images, column, column.nbytes)
                self._size += column.nbytes
                # Two stay whatever their size: two threads may be at the border of two groups.
                while len(self._groups) > 2 and self._size > ROOM:
                    self._size -= self._groups.popitem(last=False)[1][2]
            self._groups.move_to_end(key)
            return self._groups[key][1]


_RECENT = _Recent()
