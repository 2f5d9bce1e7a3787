"""The public pool has as many images of each category as fit, from the sources that are there."""

import io
import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw
from scripts.make_public_pool import (
    FEWEST,
    MOST,
    SIZE,
    balanced,
    digits,
    drawings,
    fitting,
    letters,
    signs,
)

from tckr.foundation.public import as_table


def disc(path: Path, colour: str, radius: int) -> None:
    """A drawing on transparent ground."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGBA", (64, 64))
    ImageDraw.Draw(image).ellipse((32 - radius, 20, 32 + radius, 44), fill=colour)
    image.save(path)


@pytest.fixture
def fetched(tmp_path: Path) -> Namespace:
    """Folders as scripts/fetch_public_images.sh leaves them, with vehicles and flags that are to be left out."""
    entries = []
    for turn in range(20):
        for category, subcategory in (
            ("Objects", "clothing"),
            ("Travel & Places", "transport-ground"),
            ("Flags", "country-flag"),
        ):
            name = f"{subcategory}-{turn}.png"
            entries.append(
                {"image": name, "name": name, "category": category, "subcategory": subcategory}
            )
            disc(tmp_path / "emoji/img/google/64" / name, f"#{turn:02x}80ff", 6 + turn)
        disc(tmp_path / "clip_art/animals/birds" / f"{turn}.png", f"#80{turn:02x}ff", 6 + turn)
        disc(tmp_path / "clip_art/transportation" / f"{turn}.png", f"#8080{turn:02x}", 6 + turn)
    (tmp_path / "emoji/emoji.json").write_text(json.dumps(entries))
    return Namespace(emoji=tmp_path / "emoji", clip_art=tmp_path / "clip_art", photos=None)


def test_drawings_have_their_categories_and_vehicles_are_left_out(fetched: Namespace) -> None:
    table = as_table(list(drawings(fetched)))
    counts = table["category"].value_counts().to_dict()
    assert counts == {"emoji: clothing": 20, "clip art: animals": 20}


def test_a_source_that_is_not_there_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nothing = Namespace(emoji=tmp_path / "emoji", clip_art=tmp_path / "art", photos=None)
    assert not list(drawings(nothing))
    assert caplog.text.count("is not there and left out") == 2


def test_letters_digits_and_signs_need_no_download() -> None:
    draw = np.random.default_rng(0)
    categories = {row[2] for source in (digits, letters, signs) for row in source(draw)}
    assert {"digit: 7", "capital letter: Q", "small letter: g", "sign: chess men"} <= categories
    assert len(categories) >= 60


def test_every_category_has_as_many_images_as_fit(fetched: Namespace) -> None:
    few = [row for row in digits(np.random.default_rng(0)) if row[2] == "digit: 3"][: FEWEST - 1]
    pool = balanced(as_table([*drawings(fetched), *few]), seed=0)
    assert pool["category"].value_counts().to_dict() == {
        "emoji: clothing": MOST,
        "clip art: animals": MOST,
    }
    bytes_of_most = pool["image"].map(len).sum()
    kept = fitting(pool, bytes_of_most / 2e6)
    assert kept.columns.tolist() == ["image", "category"]
    (each,) = set(kept["category"].value_counts())
    assert FEWEST <= each < MOST
    assert kept["image"].map(len).sum() <= bytes_of_most / 2
    for encoded in kept["image"]:
        assert Image.open(io.BytesIO(encoded)).size == (SIZE, SIZE)
    with pytest.raises(SystemExit, match="raise --megabytes"):
        fitting(pool, 1e-3)


def test_the_same_seed_gives_the_same_pool(fetched: Namespace) -> None:
    table = as_table(list(drawings(fetched)))
    pd.testing.assert_frame_equal(balanced(table, 1), balanced(table, 1))
    assert not balanced(table, 1)["image"].equals(balanced(table, 2)["image"])
