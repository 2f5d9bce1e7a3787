"""Small files that would fill the memory are refused before they are unpacked."""

import gzip
import io
import struct
import tracemalloc
import zipfile
from zlib import compress, crc32

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tckr.errors import UserError
from tckr.images.arrays import check_expansion
from tckr.images.options import IngestionOptions
from tckr.images.prepare import decode
from tckr.images.raw import RawImage, in_batches
from tckr.images.readers import read

OPTIONS = IngestionOptions(size=16)


def npz(path, **headers):
    """An archive of arrays whose headers declare a shape, and whose content is zeros that may be fewer."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, (shape, size) in headers.items():
            header = io.BytesIO()
            declared = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(header, declared)
            archive.writestr(f"{key}.npy", header.getvalue() + bytes(size))
    return path


def peak_of(action, words):
    tracemalloc.start()
    with pytest.raises(UserError, match=words):
        action()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"images": ((10, 8, 8), 640), "labels": ((30_000_000,), 30_000_000)}, "10 rows"),
        ({"images": ((4, 8, 8, 100_000), 25_600_000), "labels": ((4,), 4)}, "none of images"),
        ({"images": ((2, 8, 8), 128), "labels": ((2, 10_000_000), 20_000_000)}, "several labels"),
    ],
)
def test_arrays_are_checked_by_their_headers(tmp_path, headers, words):
    path = npz(tmp_path / "x.npz", **headers)
    assert peak_of(lambda: read(path, OPTIONS), words) < 2e6


def test_labels_of_idx_are_not_unpacked_before_the_counts_agree(tmp_path):
    n = 50_000_000
    with gzip.open(tmp_path / "train-labels-idx1-ubyte.gz", "wb", 1) as stream:
        stream.write(struct.pack(">II", 0x801, n) + bytes(n))
    with gzip.open(tmp_path / "train-images-idx3-ubyte.gz", "wb") as stream:
        stream.write(struct.pack(">IIII", 0x803, n - 1, 1, 1))
    assert peak_of(lambda: read(tmp_path, OPTIONS), "labels") < 2e6


def test_what_expands_as_no_images_do_is_refused():
    check_expansion("x", 1, 2**30)
    check_expansion("x", 2**28, 2**33)
    with pytest.raises(UserError, match=r"x would expand from 1,000 to 2,147,483,648 bytes"):
        check_expansion("x", 1000, 2**31)


def test_one_value_in_many_rows_of_parquet_is_held_once(tmp_path):
    value = bytes(20_000_000)
    images = pa.DictionaryArray.from_arrays(pa.array([0] * 64, pa.int32()), pa.array([value]))
    table = pa.table({"image": images.cast(pa.binary()), "label": ["a", "b"] * 32})
    pq.write_table(
        table, tmp_path / "x.parquet", compression="zstd", dictionary_pagesize_limit=1 << 30
    )
    del table, images
    before = pa.total_allocated_bytes()
    most = 0
    for image in read(tmp_path, OPTIONS).images:
        assert len(image.content) == len(value)
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < 20 * len(value)


def chunk(kind, content):
    return (
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc32(kind + content))
    )


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP", b"iTXt", b"tEXt"])
@pytest.mark.parametrize("broken", [False, True])
def test_text_and_profiles_of_png_do_not_cost_the_pixels(kind, broken):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    png, extra = buffer.getvalue(), chunk(kind, b"x\0\0" + compress(bytes(20_000_000)))
    if broken:
        extra = extra[:-1] + bytes([extra[-1] ^ 255])
    for content in (png[:33] + extra + png[33:], png[:-12] + extra + png[-12:]):
        tracemalloc.start()
        image = decode(content, 10**6, 64)[0]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (np.asarray(image) == pixels).all()
        assert peak < 2e6


def test_large_values_of_a_table_are_refused_like_large_files():
    with pytest.raises(Exception, match="over 8 MB"):
        decode(bytes(9_000_000), 10**6, 64)


def test_large_images_are_read_a_few_at_a_time():
    images = [RawImage("x", bytes(30 * 2**20), "a")] * 7 + [RawImage("y", np.zeros(9), "a")] * 99
    assert [len(batch) for batch in in_batches(images)] == [3, 3, 64, 36]
