"""Ways to keep image tables that exceed memory: seconds to write and read, size, and the memory of the process.

    python -m benchmarks.storage [--json result.json]
    python -m benchmarks.storage --small      # seconds

Images of noise, encoded to PNG: 5,000 of 224 pixels in colour and 60,000 of 28 pixels in grey. Every row runs in a
process of its own, which writes the images one after the other, then reads 200 at random, then all in turn; a read
ends with the bytes of a PNG, or for raw pixels with their copy. Memory is `RssAnon`: what is mapped from a file is the
kernel's to keep or to drop.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from benchmarks.measure import Report, machine

from tckr.datasets import image_table
from tckr.images.encoded import EncodedImages
from tckr.images.stores import Heap, ParquetImages
from tckr.images.tensors import encode, to_pil

DISTINCT = 256  # images that are drawn; they repeat
RANDOM = 200
KIND = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
SCHEMA = pa.schema([("image", KIND)])
SHOWN = {
    "images": "images", "kept": "kept as", "write_s": "write s", "random_ms": "one at random, ms", "in_turn_s": "all in turn s",
    "gib": "GiB", "anon_mib": "memory MiB",
}  # fmt: skip


class Images(NamedTuple):
    """Kind of the images of a row."""

    count: int
    side: int
    channels: int

    def pixels(self) -> np.ndarray:
        """Return the distinct images, uint8 (n, H, W, C)."""
        shape = (min(DISTINCT, self.count), self.side, self.side, self.channels)
        return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)

    def encoded(self) -> Iterator[bytes]:
        """Yield the PNGs one after the other."""
        distinct = _distinct(self)
        return (distinct[number % len(distinct)] for number in range(self.count))


@cache
def _distinct(images: Images) -> list[bytes]:
    return [encode(to_pil(image)) for image in images.pixels()]


Reader = Callable[[np.ndarray], object]


def parquet(images: Images, file: Path, group_bytes: int) -> Reader:
    """Row groups that end at a number of bytes, or at 1,000 rows."""
    image_table.GROUP_BYTES = group_bytes
    with pq.ParquetWriter(file, SCHEMA, **image_table._layout(SCHEMA)) as writer:
        _write(images, writer)
    return _each(EncodedImages.of(ParquetImages(file), images.count))


def parquet_zstd(images: Images, file: Path) -> Reader:
    """Compressed row groups of 1,000 rows."""
    image_table.GROUP_BYTES = 1 << 40
    with pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer:
        _write(images, writer)
    return _each(EncodedImages.of(ParquetImages(file), images.count))


def arrow(images: Images, file: Path) -> Reader:
    """An Arrow stream, as `datasets` keeps them, mapped into memory."""
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, SCHEMA) as writer:
        _write(images, writer)
    column = pa.ipc.open_stream(pa.memory_map(str(file))).read_all()["image"]
    parts = [part.field("bytes") for part in column.chunks]
    starts = np.cumsum([0, *map(len, parts)])

    def read(rows: np.ndarray) -> None:
        for row in rows:
            part = int(np.searchsorted(starts, row, side="right")) - 1
            parts[part][int(row - starts[part])].as_py()

    return read


def heap(images: Images, file: Path) -> Reader:
    """PNGs one after the other in a file, read by their places: what ingestion and drawing write."""
    stored = Heap(file.open("w+b"))
    for image in images.encoded():
        stored.append(image)
    return _each(EncodedImages.of(stored, images.count))


def raw(images: Images, file: Path) -> Reader:
    """Pixels, mapped into memory."""
    distinct = images.pixels()
    whole = np.memmap(file, np.uint8, "w+", shape=(images.count, *distinct.shape[1:]))
    for number in range(images.count):
        whole[number] = distinct[number % len(distinct)]
    whole.flush()

    def read(rows: np.ndarray) -> None:
        for row in rows:
            whole[row].copy()

    return read


WAYS: dict[str, Callable[[Images, Path], Reader]] = {
    "Parquet, row groups of 1 MiB": lambda images, file: parquet(images, file, 1 << 20),
    "Parquet, row groups of 4 MiB": lambda images, file: parquet(images, file, 4 << 20),
    "Parquet, row groups of 16 MiB": lambda images, file: parquet(images, file, 16 << 20),
    "Parquet, zstd, 1,000 rows": parquet_zstd,
    "Arrow, mapped": arrow,
    "PNGs in one file": heap,
    "raw pixels, mapped": raw,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every way in a process of its own, and print and save the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--small", action="store_true", help="few images, seconds")
    parser.add_argument("--json", type=Path, help="where to save the result")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.one:
        way, *numbers = given.one
        print(json.dumps(_measured(way, Images(*map(int, numbers)))))  # noqa: T201
        return
    report = Report(given.json)
    report.set(**machine("cpu"))
    kinds = [Images(5000, 224, 3), Images(60_000, 28, 1)]
    for images in [Images(50, 32, 3)] if given.small else kinds:
        for way in WAYS:
            command = [sys.executable, "-m", "benchmarks.storage", "--one", way]
            done = subprocess.run(  # noqa: S603 - this file
                [*command, *map(str, images)], check=True, capture_output=True, text=True
            )
            report.add("rows", json.loads(done.stdout.splitlines()[-1]))
    report.show("Image tables", "rows", SHOWN)


def _measured(way: str, images: Images) -> dict[str, object]:
    _distinct(images)
    with tempfile.TemporaryDirectory(dir=".") as folder, Memory() as memory:
        file = Path(folder) / "images"
        start = time.perf_counter()
        read = WAYS[way](images, file)
        written = time.perf_counter()
        chosen = np.random.default_rng(1).integers(0, images.count, RANDOM)
        read(chosen)
        picked = time.perf_counter()
        read(np.arange(images.count))
        finished = time.perf_counter()
        return {
            "images": f"{images.count:,} of {images.side} px",
            "kept": way,
            "write_s": written - start,
            "random_ms": 1000 * (picked - written) / RANDOM,
            "in_turn_s": finished - picked,
            "gib": file.stat().st_size / 2**30,
            "anon_mib": memory.most_mib(),
        }


def _each(column: EncodedImages) -> Reader:
    def read(rows: np.ndarray) -> None:
        for _ in column[rows]:
            pass

    return read


def _write(images: Images, writer: Any) -> None:
    for contents in image_table._row_groups(images.encoded()):
        parts = [pa.array(contents, pa.binary()), pa.nulls(len(contents), pa.string())]
        struct = pa.StructArray.from_arrays(parts, ["bytes", "path"])
        writer.write_table(pa.table([struct], SCHEMA))


class Memory:
    """The most memory that the process takes within a block, beyond what it had before and without mapped files."""

    def __enter__(self) -> "Memory":
        self._seen = [self._anonymous()]
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._look)
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watch.join()

    def most_mib(self) -> float:
        """Return MiB."""
        return (max(self._seen) - self._seen[0]) / 2**10

    def _look(self) -> None:
        while not self._over.wait(0.02):
            self._seen.append(self._anonymous())

    def _anonymous(self) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


if __name__ == "__main__":
    main()
