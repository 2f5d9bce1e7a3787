import io

import numpy as np
import pytest
from PIL import Image

from tckr.images.options import IngestionOptions
from tckr.images.prepare import as_colour, prepare, squared
from tckr.images.raw import RawImage


def prepared(content, **options):
    return prepare(RawImage("x", content, "a"), IngestionOptions(size=16, **options))


def decoded(one):
    return Image.open(io.BytesIO(one.png))


def test_padding_keeps_small_images_pixel_by_pixel(pixels):
    image = Image.fromarray(pixels(0, 12, 10))
    padded = np.asarray(squared(image, 16, "pad"))
    assert (padded[2:14, 3:13] == np.asarray(image)).all()


def test_padding_continues_the_border():
    image = Image.new("RGB", (40, 20), (200, 100, 50))
    padded = squared(image, 16, "pad")
    assert padded.size == (16, 16)
    assert padded.getcolors() == [(256, (200, 100, 50))]


@pytest.mark.parametrize("fit", ["resize", "pad", "crop"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("size", [(1, 1), (1, 200), (33, 8), (16, 16), (300, 299)])
def test_every_shape_becomes_square(fit, mode, size):
    square = squared(Image.new(mode, size), 16, fit)
    assert (square.size, square.mode) == ((16, 16), mode)


def test_crop_cuts_and_resize_stretches():
    image = Image.new("L", (64, 16))
    image.paste(255, (24, 0, 40, 16))
    assert np.asarray(squared(image, 16, "crop")).min() == 255
    assert 0 < (np.asarray(squared(image, 16, "resize")) > 128).mean() < 0.5


def test_the_id_is_that_of_the_pixels_not_of_the_file(encoded):
    ids = {prepared(encoded(0, file_format=one)).image_id for one in ("PNG", "BMP", "TIFF")}
    assert len(ids) == 1
    (only,) = ids
    assert len(only) == 16
    assert int(only, 16) >= 0
    assert prepared(encoded(1)).image_id != only


def test_colour_is_found_asked_for_and_given_back(encoded):
    grey = np.repeat(np.arange(100, dtype=np.uint8).reshape(10, 10, 1), 3, axis=2)
    assert prepared(grey).mode == "L"
    assert prepared(encoded(0, channels=3)).mode == "RGB"
    assert prepared(encoded(0, channels=3), channels="grey").mode == "L"
    asked = prepared(grey, channels="colour")
    assert asked.mode == "RGB"
    given = as_colour(prepared(grey))
    assert (given.image_id, given.png, decoded(given).mode) == (asked.image_id, asked.png, "RGB")


def test_metadata_does_not_travel():
    exif = Image.Exif()
    exif[0x010E] = "patient 4711"
    buffer = io.BytesIO()
    Image.new("RGB", (20, 20)).save(buffer, format="JPEG", exif=exif, comment=b"patient 4711")
    one = prepared(buffer.getvalue())
    assert b"4711" not in one.png
    assert one.raw.content is None
