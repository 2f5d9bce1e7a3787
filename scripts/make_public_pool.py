"""Build the public pool of the arm `privimage`: small images of many categories, none of them private.

    bash scripts/fetch_public_images.sh            (emoji and clip art, into data/01_raw/public)
    python scripts/make_public_pool.py             (writes data/01_raw/public/pool.parquet)

Sources that are not there are left out and named: emoji by subcategory, clip art by folder, handwritten digits
(scikit-learn), letters, scripts and symbols of the free fonts that matplotlib brings along, and with --photos photographs
by label. Vehicles, flags and Fashion-MNIST are in none of them. Every category has the same number of images, as many as
the size of the file allows. The drawings are placed on white, black and coloured grounds, as
`tckr.foundation.public.compose` does for the foundation models.
"""

import argparse
import io
import logging
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import torch
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_digits

from tckr.foundation.public import (
    PublicMixOptions,
    Row,
    as_table,
    centred,
    compose,
    read_clip_art,
    read_emoji,
    read_photographs,
)

logger = logging.getLogger(__name__)

PUBLIC = Path("data/01_raw/public")
SIZE = 32
GROUNDS = ("white", "colour", "grey_on_black", "grey_on_black", "grey_on_white")
# Folders of clip art that hold flags, logos, political and religious signs: not for others' pictures.
SIGNS_OF_GROUPS = {"decorations", "geography", "logos", "signs and symbols", "special", "unsorted"}
SIGN = "sign"  # source of letters, digits and symbols, which are not mirrored
FEWEST = 12  # different images of a category; rarer ones are left out
MOST = 48  # images of a category
INK = (
    0,
    90,
)  # levels of letters and digits, of 255; `compose` inverts them on black where they are grey
COLOURED = 0.3  # share of letters and digits in a coloured ink
GLYPH_PIXELS = 64

# Text faces that have Latin letters; STIX and Computer Modern beside DejaVu.
TEXT_FACES = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    *("DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
    *("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
    *("cmr10", "cmss10", "cmtt10", "cmti10", "cmb10"),
)
# Small letters that are not small pictures of the capital.
SMALL = "abdefghijlmnqrtwy"
# Blocks of Unicode of which DejaVu Sans draws at least a dozen signs.
BLOCKS = {
    "Greek letters": (0x0391, 0x03C9),
    "Cyrillic letters": (0x0410, 0x044F),
    "Armenian letters": (0x0531, 0x0586),
    "Hebrew letters": (0x05D0, 0x05EA),
    "Arabic letters": (0x0621, 0x064A),
    "N'Ko letters": (0x07C0, 0x07EA),
    "Lao letters": (0x0E81, 0x0EAE),
    "Georgian letters": (0x10D0, 0x10F0),
    "Canadian syllabics": (0x1401, 0x1676),
    "Ogham letters": (0x1681, 0x169C),
    "Tifinagh letters": (0x2D30, 0x2D65),
    "phonetic letters": (0x0250, 0x02A8),
    "Old Italic letters": (0x10300, 0x1031E),
    "Roman numerals": (0x2160, 0x2188),
    "currency signs": (0x20A0, 0x20B5),
    "arrows": (0x2190, 0x21FF),
    "mathematical operators": (0x2200, 0x22FF),
    "box drawing": (0x2500, 0x257F),
    "block elements": (0x2580, 0x259F),
    "geometric shapes": (0x25A0, 0x25FF),
    "zodiac and planets": (0x263D, 0x2653),
    "chess men": (0x2654, 0x265F),
    "dingbat stars": (0x2719, 0x274B),
    "dingbat arrows": (0x2794, 0x27BE),
    "Braille patterns": (0x2801, 0x28FF),
    "hexagrams": (0x4DC0, 0x4DFF),
    "tetragrams": (0x1D306, 0x1D356),
    "domino tiles": (0x1F030, 0x1F093),
    "playing cards": (0x1F0A0, 0x1F0DF),
    "faces": (0x1F600, 0x1F640),
    "crosses and religions": (0x2626, 0x262F),
    "open letters": (0x1D538, 0x1D56B),
}


def main() -> None:
    """Collect, balance, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--emoji", type=Path, default=PUBLIC / "emoji")
    parser.add_argument("--clip-art", type=Path, default=PUBLIC / "openclipart")
    parser.add_argument("--photos", type=Path, help="Parquet with columns split, label, image")
    parser.add_argument("--target", type=Path, default=PUBLIC / "pool.parquet")
    parser.add_argument("--megabytes", type=float, default=3.0, help="largest size of the file")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    draw = np.random.default_rng(arguments.seed)
    public = as_table([*drawings(arguments), *digits(draw), *letters(draw), *signs(draw)])
    pool = fitting(balanced(public, arguments.seed), arguments.megabytes)
    arguments.target.parent.mkdir(parents=True, exist_ok=True)
    pool.to_parquet(arguments.target, index=False, compression="zstd")
    logger.info(
        "%s: %d images of %d categories, %.1f MB.",
        arguments.target, len(pool), pool.category.nunique(), arguments.target.stat().st_size / 1e6,
    )  # fmt: skip


def drawings(arguments: argparse.Namespace) -> Iterator[Row]:
    """Yield what was fetched, and name what was not."""
    for source, reader in (
        (arguments.emoji, read_emoji),
        (arguments.clip_art, read_clip_art),
        (arguments.photos, read_photographs),
    ):
        if source is not None and source.exists():
            rows = [
                (kind, name, f"{_WORDS[kind]}: {category}", image)
                for kind, name, category, image in reader(source)
                if kind != "clip_art" or category not in SIGNS_OF_GROUPS
            ]
            logger.info("%s: %d images.", source, len(rows))
            yield from rows
        elif source is not None:
            logger.warning("%s is not there and left out.", source)


_WORDS = {"emoji": "emoji", "clip_art": "clip art", "photo": "photograph"}


def digits(draw: np.random.Generator) -> Iterator[Row]:
    """Yield scikit-learn's handwritten digits as drawings: ink where they are dark."""
    found = load_digits()
    for image, label in zip(found.images, found.target, strict=True):
        alpha = Image.fromarray((image / 16 * 255).astype(np.uint8)).resize(
            (GLYPH_PIXELS, GLYPH_PIXELS), Image.Resampling.BICUBIC
        )
        yield from _drawn(alpha, f"digit: {label}", draw)


def letters(draw: np.random.Generator) -> Iterator[Row]:
    """Yield Latin letters, each in every text face."""
    for face in TEXT_FACES:
        font = _font(face)
        for letter in (*map(chr, range(ord("A"), ord("Z") + 1)), *SMALL):
            kind = "small letter" if letter.islower() else "capital letter"
            yield from _drawn(_glyph(font, letter), f"{kind}: {letter}", draw)


def signs(draw: np.random.Generator) -> Iterator[Row]:
    """Yield the signs of other scripts and the symbols that DejaVu Sans, plain and bold, draws."""
    for face in ("DejaVuSans", "DejaVuSans-Bold"):
        font, known = _font(face), FT2Font(str(_file(face))).get_charmap()
        for category, (first, last) in BLOCKS.items():
            for code in range(first, last + 1):
                if code in known:
                    yield from _drawn(_glyph(font, chr(code)), f"sign: {category}", draw)


def balanced(public: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return MOST views of each category as table (image PNG, category), each prefix of a category as mixed as the whole.

    Categories of fewer than FEWEST images are left out; one of fewer than MOST shows some twice, in other views.
    """
    draw = np.random.default_rng(seed)
    parts = []
    for category, table in public.groupby("category", sort=True):
        if len(table) < FEWEST:
            logger.info("%s has %d images only and is left out.", category, len(table))
            continue
        rounds = [draw.permutation(len(table)) for _ in range(-(-MOST // len(table)))]
        chosen = table.iloc[np.concatenate(rounds)[:MOST]].assign(turn=range(MOST))
        parts.append(chosen)
    chosen = pd.concat(parts, ignore_index=True)
    chosen["ground"] = draw.integers(len(GROUNDS), size=len(chosen))
    pixels = torch.empty(len(chosen), 3, SIZE, SIZE, dtype=torch.uint8)
    for ground, view in enumerate(GROUNDS):
        rows = np.flatnonzero(chosen["ground"] == ground)
        for source in chosen["source"].unique():
            options = PublicMixOptions(
                size=SIZE, photo_views=("colour",), drawing_views=(view,), mirror=source != SIGN
            )
            own = rows[(chosen["source"] == source).to_numpy()[rows]]
            if len(own):
                pixels[own], _ = compose(chosen.iloc[own], options, seed + ground)
    table = pd.DataFrame({"image": list(map(_png, pixels)), "category": chosen["category"], "turn": chosen["turn"]})  # fmt: skip
    return table.sort_values(["category", "turn"], ignore_index=True)


def fitting(pool: pd.DataFrame, megabytes: float) -> pd.DataFrame:
    """Return as many images of each category as fit into a file of this size, and the two columns alone."""
    for each in range(MOST, FEWEST - 1, -1):
        kept = pool[pool["turn"] < each]
        if kept["image"].map(len).sum() * 1.02 <= megabytes * 1e6:
            return kept[["image", "category"]].reset_index(drop=True)
    raise SystemExit(f"{FEWEST} images of each category exceed {megabytes} MB: raise --megabytes.")


def _drawn(alpha: Image.Image, category: str, draw: np.random.Generator) -> Iterator[Row]:
    """Yield a drawing in a dark ink of its own, grey or coloured, unless nothing of it is visible."""
    ink = draw.integers(*INK, size=3) if draw.random() < COLOURED else [draw.integers(*INK)] * 3
    image = Image.new("RGBA", alpha.size, tuple(int(each) for each in ink))
    image.putalpha(alpha)
    pixels = centred(image)
    if pixels is not None:
        yield SIGN, category, category, pixels


def _glyph(font: ImageFont.FreeTypeFont, text: str) -> Image.Image:
    canvas = Image.new("L", (2 * GLYPH_PIXELS, 2 * GLYPH_PIXELS))
    ImageDraw.Draw(canvas).text(
        (GLYPH_PIXELS, GLYPH_PIXELS), text, fill=255, font=font, anchor="mm"
    )
    return canvas


def _font(face: str) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(_file(face)), GLYPH_PIXELS)


def _file(face: str) -> Path:
    return Path(matplotlib.get_data_path()) / "fonts/ttf" / f"{face}.ttf"


def _png(pixels: torch.Tensor) -> bytes:
    """Encode uint8 (3, H, W); grey where the channels are equal."""
    grey = bool((pixels == pixels[:1]).all())
    array = pixels[0].numpy() if grey else pixels.permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
