"""Names of classes in any script are drawn, or replaced by a number; boxes stand for none of them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.font_manager import fontManager
from PIL import Image, ImageDraw, ImageFont

from tckr.images.fonts import class_label, drawable, font_for
from tckr.images.tensors import to_png
from tckr.reporting.style import class_sheet

RARE = "\U0010abcd"  # for private use: in no font but the one made below


@pytest.fixture
def own_font(tmp_path: Path) -> Iterator[Path]:
    """An installed font that has this letter."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for point in ((0, 700), (350, 300), (700, 700), (700, 0)):
        pen.lineTo(point)
    pen.closePath()
    empty = TTGlyphPen(None).glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "eye"])
    builder.setupCharacterMap({ord(RARE): "eye"})
    builder.setupGlyf({".notdef": empty, "eye": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (700, 0), "eye": (700, 0)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Own", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    path = tmp_path / "own.ttf"
    builder.save(path)
    fontManager.addfont(path)
    yield path
    fontManager.ttflist[:] = [font for font in fontManager.ttflist if font.fname != str(path)]


def drawn(text: str, font: ImageFont.FreeTypeFont) -> np.ndarray:
    canvas = Image.new("L", (200, 40))
    ImageDraw.Draw(canvas).text((5, 5), text, fill=255, font=font)
    return np.asarray(canvas)


@pytest.mark.parametrize("text", ["Müller", "café", "Łódź", "кошка", "γάτα"])
def test_letters_with_accents_and_of_other_alphabets_are_drawn(text: str) -> None:
    said, font = drawable(text, 15)
    assert said == text
    missing = drawn("\uffff", font)  # the box
    assert missing.any()
    for letter in text:
        assert not np.array_equal(drawn(letter, font), missing), letter


def test_plain_text_keeps_its_font() -> None:
    assert font_for("T-shirt/top, private", 15).getname() == ImageFont.load_default(15).getname()


def test_an_installed_font_that_has_the_letters_is_taken(own_font: Path) -> None:
    assert font_for(RARE, 15).path == str(own_font)
    assert class_label(RARE, 4) == RARE


def test_without_a_font_a_class_is_called_by_its_number() -> None:
    assert font_for(RARE, 15) is None
    assert class_label(RARE, 4) == "class 4"
    assert drawable(f"an {RARE}", 15)[0] == "an ?"


def test_a_sheet_calls_by_number_what_no_font_can_write() -> None:
    images = to_png(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))

    def sheet_of(*names: str) -> Image.Image:
        table = pd.DataFrame({"image": images, "label": [0, 1], "class_name": names})
        return class_sheet({"private": table})

    assert sheet_of("bag", RARE).tobytes() == sheet_of("bag", "class 1").tobytes()
