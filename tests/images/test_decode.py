import io
import os
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from tckr.images.prepare import BadImageError, decode

LIMIT = 50_000_000


def read(content, max_pixels=LIMIT):
    return decode(content, max_pixels, draft=64)


def saved(image, file_format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format=file_format, **options)
    return buffer.getvalue()


def test_600_megapixels_are_refused_by_the_header(forged_png):
    tracemalloc.start()
    with pytest.raises(BadImageError, match=r"too large: .*600000000"):
        read(forged_png)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6


def test_own_limit_is_below_pillows(encoded):
    with pytest.raises(BadImageError, match="12 x 12, over max_pixels = 100"):
        read(encoded(0), max_pixels=100)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_truncated_files_are_refused(encoded, file_format):
    whole = encoded(3, height=64, width=64, channels=3, file_format=file_format)
    assert read(whole)[0].size == (64, 64)
    with pytest.raises(BadImageError, match=r"truncated|format|damaged"):
        read(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (None, "no image"),
        (b"just some text", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF", "not an image"),
    ],
)
def test_what_is_no_image_is_refused(content, reason):
    with pytest.raises(BadImageError, match=reason):
        read(content)


def test_missing_files_folders_pipes_and_giants_are_refused(tmp_path):
    pipe, giant = tmp_path / "pipe.png", tmp_path / "giant.png"
    os.mkfifo(pipe)
    with giant.open("wb") as stream:
        stream.truncate(2_000_000)
    for path, reason in [
        (tmp_path / "nothing.png", "not found"),
        (tmp_path, "regular"),
        (pipe, "regular"),
        (giant, "over 1 MB"),
    ]:
        with pytest.raises(BadImageError, match=reason):
            read(path, max_pixels=125_000)


def test_transparency_is_laid_on_white():
    clear = Image.new("RGBA", (2, 2), (10, 20, 30, 0))
    assert read(saved(clear))[0].getpixel((0, 0)) == (255, 255, 255)
    grey = Image.new("LA", (2, 2), (10, 0))
    assert (read(saved(grey))[0].mode, read(saved(grey))[0].getpixel((0, 0))) == ("L", 255)
    palette = Image.new("P", (2, 2), 0)
    assert read(saved(palette, transparency=0))[0].getpixel((0, 0)) == (255, 255, 255)


def test_every_mode_becomes_grey_or_colour():
    modes = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB", "CMYK": "RGB"}
    for mode, expected in modes.items():
        file_format = "TIFF" if mode == "CMYK" else "PNG"
        image, original = read(saved(Image.new(mode, (5, 4)), file_format))
        assert (image.mode, original) == (expected, f"{mode} 5x4")


def test_sixteen_bit_grey_keeps_its_shades():
    deep = Image.fromarray(np.array([[0, 257 * 128], [257 * 7, 65535]], dtype=np.uint16))
    image, _ = read(saved(deep))
    assert np.asarray(image).tolist() == [[0, 128], [7, 255]]


def test_a_camera_held_upright_stays_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    image, original = read(saved(Image.new("RGB", (40, 20)), "JPEG", exif=exif))
    assert image.size == (20, 40)
    assert original == "RGB 40x20"


def test_large_jpegs_are_decoded_small_but_not_too_small(encoded):
    image, original = read(encoded(0, 800, 600, 3, "JPEG"))
    assert original == "RGB 600x800"
    assert 64 <= min(image.size) < 200


@pytest.mark.parametrize(
    ("shape", "mode"),
    [((5, 6), "L"), ((5, 6, 1), "L"), ((1, 5, 6), "L"), ((5, 6, 3), "RGB"), ((3, 5, 6), "RGB")],
)
def test_arrays_of_usual_shapes(shape, mode):
    image, original = read(np.full(shape, 7, dtype=np.int64))
    assert (image.mode, image.size) == (mode, (6, 5))
    assert np.asarray(image).max() == 7
    assert original == f"{mode} 6x5"


def test_floats_and_booleans_are_scaled():
    image, _ = read(np.array([[0.0, 0.5, 1.0]]))
    assert np.asarray(image).tolist() == [[0, 128, 255]]
    image, _ = read(np.array([[True, False]]))
    assert np.asarray(image).tolist() == [[255, 0]]


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 2, 5)),
        np.zeros(4),
        np.zeros((0, 4)),
        np.array([[1.5, 0]]),
        np.array([[np.nan, 0]]),
        np.array([[-1, 0]]),
        np.array([[300, 0]]),
        np.array([["a"]]),
        np.zeros((100, 100), dtype=np.uint8),
    ],
)
def test_arrays_that_are_no_images_are_refused(array):
    with pytest.raises(BadImageError):
        read(array, max_pixels=1000)
