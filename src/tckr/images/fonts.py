"""Fonts that have the letters of a text: names of classes are written in every script, and never drawn as boxes."""

import io
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import ImageFont, features

from tckr.images.names import one_line

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

FIRST = "DejaVu Sans"  # comes with matplotlib: accents, Greek, Cyrillic, Arabic, Hebrew
BOXES = "Last Resort"  # has a box for every letter there is
RIGHT_TO_LEFT = {"R", "AL", "AN"}
INDIC, INDIC_END = (
    0x0900,
    0x1CFF,
)  # Devanagari to Vedic: letters change their shape by their neighbours
MISSING = "?"


def font_for(text: str, size: int) -> "FreeTypeFont | None":
    """Return a font that has every letter of a text: Pillow's own, matplotlib's, or an installed one; None without any.

    Args:
        text: One line.
        size: In pixels.

    >>> font_for("café", 15).getname()[0]
    'DejaVu Sans'
    """
    letters = frozenset(ord(char) for char in text if not char.isspace())
    own = ImageFont.load_default(size)
    if not hasattr(own, "font_bytes"):  # a Pillow without FreeType: a bitmap font of Latin-1
        return own if max(letters, default=0) < 256 else None  # type: ignore[return-value]
    if letters <= _letters_of_default():
        return own  # type: ignore[return-value]
    if _is_shaped(text) and not (features.check("raqm") and features.check("fribidi")):
        return None
    for path in _fonts():
        if letters <= _letters(path):
            try:
                return ImageFont.truetype(path, size)
            except OSError:  # for instance one of coloured bitmaps
                continue
    return None


def drawable(text: str, size: int) -> tuple[str, "FreeTypeFont"]:
    """Return a text as it can be drawn, and its font; letters that no font has become question marks."""
    font = font_for(text, size)
    if font is not None:
        return text, font
    known = "".join(char if font_for(char, size) is not None else MISSING for char in text)
    font = font_for(known, size)
    if font is None:  # its letters are in several fonts
        known = "".join(char if ord(char) < 128 else MISSING for char in known)
        font = ImageFont.load_default(size)  # type: ignore[assignment]
    return known, font  # type: ignore[return-value]


def class_label(name: str, number: int) -> str:
    """Return how a class is called in a picture: by its name, or by its number where no font has its letters.

    The tables of the report list the number beside the name.

    >>> class_label("boot", 3), class_label("\\U000e0100", 3)
    ('boot', 'class 3')
    """
    return name if font_for(one_line(name), 15) is not None else f"class {number}"


def _is_shaped(text: str) -> bool:
    """Whether a text needs a layout engine: it runs from right to left, or its letters join."""
    return any(
        unicodedata.bidirectional(char) in RIGHT_TO_LEFT or INDIC <= ord(char) <= INDIC_END
        for char in text
    )


def _fonts() -> Iterator[str]:
    """Yield the files of upright fonts that matplotlib knows, its own first, regular weights first."""
    from matplotlib.font_manager import fontManager

    upright = [
        font
        for font in fontManager.ttflist
        if font.style == "normal" and not font.name.startswith((BOXES, "cm", "STIX"))
    ]
    upright.sort(key=lambda font: (font.name != FIRST, _heaviness(font.weight), font.fname))
    for font in upright:
        if Path(font.fname).is_file():
            yield font.fname


def _heaviness(weight: object) -> int:
    return (
        abs(weight - 400)
        if isinstance(weight, int)
        else 0
        if weight in ("normal", "regular")
        else 1
    )


@cache
def _letters(path: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(path).get_charmap())
    except (RuntimeError, OSError):
        return frozenset()


@cache
def _letters_of_default() -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(io.BytesIO(ImageFont.load_default(15).font_bytes)).get_charmap())  # type: ignore[union-attr]
