import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tckr.errors import UserError
from tckr.images.options import IngestionOptions
from tckr.images.pixels import Scale, judge, refuse_two_scales
from tckr.images.prepare import decode
from tckr.images.raw import RawImage, RawTable

REFUSED = "refused"


def read(arrays, **options):
    """The pixels of a set as they come in, and the scales they were read on."""
    images = [RawImage(str(number), array, "a") for number, array in enumerate(arrays)]
    scales = judge(RawTable("arrays", images, len(images)), IngestionOptions(**options), "set")
    return [np.asarray(decode(one.content, 10**6, 64, scales)[0]) for one in images], scales


def grey(top, n=20, side=12, dtype=np.uint16, low=0, seed=0):
    """Images of noise with both ends of their range in each."""
    rng = np.random.default_rng(seed)
    arrays = (rng.random((n, side, side)) * (top - low) + low).astype(dtype)
    arrays[:, 0, 0], arrays[:, 0, 1] = low, top
    return arrays


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_depths_in_sixteen_bits_become_eight(bits):
    images, scales = read(grey(2**bits - 1))
    assert scales.of_kind == {"integers": Scale(0, 2**bits - 1)}
    assert images[0].min() == 0
    assert images[0].max() == 255
    assert "ingestion.range" in scales.notes[0]


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        (grey(1, dtype=np.uint8), "0..1"),
        (grey(1, dtype=np.int64), "0..1"),
        (grey(255, dtype=np.uint8), "0..255"),
        (grey(255, dtype=np.int64), "0..255"),
        (grey(3000), "0..4095"),
        (grey(1.0, dtype=np.float32), "0..1"),
        (grey(255, dtype=np.float64), "0..255"),
        (grey(1.0, dtype=np.float32, low=-1), "-1..1"),
        (grey(1.0, dtype=np.float16), "0..1"),
    ],
)
def test_ranges_that_are_certain(arrays, expected):
    images, scales = read(arrays)
    assert set(scales.describe().values()) == {expected}
    low, high = map(float, expected.split(".."))
    right = np.round((arrays[0] - low) * 255 / (high - low))
    assert np.abs(images[0].astype(int) - right).max() <= 1


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (grey(15, dtype=np.uint8), "0 to 15 of 8 bits"),
        (grey(220, dtype=np.uint8, low=200), "200 to 220"),
        (grey(33000, low=32000), "small part"),
        (grey(3.0, dtype=np.float32, low=-3), "no usual range"),
        (grey(1500, dtype=np.int16, low=-1000), "no usual range"),
        (grey(1000.0, dtype=np.float32), "no usual range"),
        (grey(0.01, dtype=np.float32), "small part"),
        (grey(100_000, dtype=np.int32), "no usual range"),
        ([*grey(255, 10, dtype=np.float32), *grey(1, 5, dtype=np.float32)], "two scales"),
        ([*grey(1, 10, dtype=np.float32, low=-1), *grey(1, 5, dtype=np.float32)], "two scales"),
        (grey(1.0, dtype=np.float32, low=-0.3), "neither"),
        ([*grey(1000, 19), *grey(60_000, 1)], "small part"),
    ],
)
def test_ranges_that_are_uncertain_are_refused(arrays, words):
    with pytest.raises(UserError, match=rf"set .*{words}.*ingestion\.range"):
        read(arrays)


def test_a_little_overshoot_of_floats_is_cut_off():
    for low, high in ((-0.01, 1.01), (-1.01, 1.01), (-2.0, 257.0)):
        images, scales = read(grey(high, dtype=np.float32, low=low))
        assert str(scales.of_kind["floats"]) in ("0..1", "-1..1", "0..255")
        assert (images[0].min(), images[0].max()) == (0, 255)


def test_masks_beside_pictures_are_two_scales():
    levels = [(0, 255)] * 18
    assert refuse_two_scales(levels, IngestionOptions(), "set") == 0
    assert refuse_two_scales([*levels, *[(0, 1)] * 2], IngestionOptions(range="full"), "set") == 2
    with pytest.raises(UserError, match="2 images of the grey levels 0 and 1 among 20"):
        refuse_two_scales([*levels, *[(0, 1)] * 2], IngestionOptions(), "set")


def test_one_hot_pixel_does_not_make_sixteen_bits_of_twelve():
    arrays = grey(2000)
    arrays[:, 3, 3][:1] = 65535
    with pytest.raises(UserError, match="small part"):
        read(arrays)
    images, scales = read(arrays, range="0..4095")
    assert images[1].max() == round(2000 * 255 / 4095)
    assert "cut off" in scales.notes[0]


def test_a_range_that_is_said_decides():
    arrays = grey(1500, dtype=np.int16, low=-1000)
    window = read(arrays, range="-160..240")[0][0]
    assert (window[arrays[0] <= -160] == 0).all()
    assert (window[arrays[0] >= 240] == 255).all()
    whole, scales = read(arrays, range="set")
    assert scales.of_kind["integers"] == Scale(-1000, 1500)
    assert (whole[0].min(), whole[0].max()) == (0, 255)
    assert read(grey(15, dtype=np.uint8), range="full")[0][0].max() == 15
    assert read(grey(4095), range="full")[0][0].max() == 16
    with pytest.raises(UserError, match="full range"):
        read(arrays, range="full")


@pytest.mark.parametrize("wrong", ["5..1", "1..1", "low", "a..b", [1, 2, 3]])
def test_ranges_that_are_none(wrong):
    with pytest.raises(ValueError, match="range"):
        IngestionOptions(range=wrong)


def test_few_dim_images_are_named_and_kept():
    scales = read([*grey(65535, 18), *grey(3000, 2)])[1]
    assert any("2 of 20 images" in note for note in scales.notes)


def test_mixed_kinds_are_each_on_their_own_scale():
    images, scales = read([*grey(255, 10, dtype=np.uint8), *grey(4095, 10)])
    assert [one.max() for one in (images[0], images[10])] == [255, 255]
    assert any("mixes kinds" in note for note in scales.notes)


def saved(image, file_format="PNG"):
    buffer = io.BytesIO()
    image.save(buffer, file_format)
    return buffer.getvalue()


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_files_of_sixteen_bits(file_format):
    arrays = grey(4095, 8)
    images, _ = read([saved(Image.fromarray(array), file_format) for array in arrays])
    assert (images[3] == np.round(arrays[3] * np.float32(255 / 4095))).all()


def with_alpha(ink, n=6):
    arrays = []
    for number in range(n):
        alpha = grey(255, 1, dtype=np.uint8, seed=number)[0]
        arrays.append(np.dstack([np.full_like(alpha, ink)] * 3 + [alpha]))
    return arrays


@pytest.mark.parametrize(
    ("ink", "background"), [(255, "black"), (240, "black"), (0, "white"), (60, "white")]
)
def test_transparent_drawings_are_laid_on_what_shows_them(ink, background):
    images, scales = read([saved(Image.fromarray(array)) for array in with_alpha(ink)])
    assert scales.background == background
    assert np.ptp(images[0]) > 100
    given_images, given_scales = read(with_alpha(ink), background="white", range="full")
    assert given_scales.background == "white"
    assert given_images[0].max() == 255


def test_sixteen_bit_colour_of_twelve_bits_is_refused():
    from struct import pack
    from zlib import compress, crc32

    def chunk(kind, content):
        return pack(">I", len(content)) + kind + content + pack(">I", crc32(kind + content))

    def png(seed):
        pixels = np.random.default_rng(seed).integers(0, 4096, (12, 12, 3)).astype(">u2")
        rows = b"".join(b"\0" + row.tobytes() for row in pixels)
        header = chunk(b"IHDR", pack(">IIBBBBB", 12, 12, 16, 2, 0, 0, 0))
        return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", compress(rows)) + chunk(b"IEND", b"")

    with pytest.raises(UserError, match="upper 8 of 16 bits"):
        read([png(seed) for seed in range(5)])


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**31),
    st.sampled_from([1, 255, 1023, 4095, 65535]),
    st.sampled_from(["uint8", "uint16", "int32", "int64", "float32", "float64", "PNG", "TIFF"]),
)
def test_equal_pictures_come_in_equal_whatever_holds_them(seed, top, kind):
    """A picture on any usual scale and in any type comes in within one grey level of itself."""
    picture = grey(1.0, 8, dtype=np.float64, seed=seed)
    values = np.round(picture * top)
    if kind == "uint8" and top > 255:
        return
    if kind.startswith("float"):
        arrays = list((picture if top == 1 else np.round(picture * 255)).astype(kind))
        expected = picture * 255
    elif kind in ("PNG", "TIFF"):
        arrays = [saved(Image.fromarray(one), kind) for one in values.astype(np.uint16)]
        expected = values * 255 / top
    else:
        arrays, expected = list(values.astype(kind)), values * 255 / top
    for image, right in zip(read(arrays)[0], expected, strict=True):
        assert np.abs(image.astype(float) - right).max() <= 1
