"""The pictures of the audit show what they are given."""

from itertools import compress

import numpy as np
import pytest
import torch
from PIL import Image

from tckr.audit.attribution import SOFT_LABELS, every_way, student_name
from tckr.audit.results import Attribution, ChannelShare, StudentLeak
from tckr.dp import Mechanism, trade_off
from tckr.images.sheets import sheet
from tckr.reporting.figures import (
    FORBIDDEN,
    OTHERS,
    draw_attribution,
    draw_closest_pairs,
    draw_exposed,
    draw_histograms,
    draw_roc,
)
from tckr.reporting.style import COLORS

GREEN, RED = (0, 200, 0), (200, 0, 0)


def plain(count: int, colour: tuple[int, int, int]) -> torch.Tensor:
    """Images uint8 (count, 3, 10, 10) of one colour."""
    pixels = torch.tensor(colour, dtype=torch.uint8)
    return pixels[None, :, None, None].expand(count, 3, 10, 10)


def share(picture: Image.Image, colour: tuple[int, int, int]) -> float:
    """Share of the picture's pixels that have exactly this colour."""
    return float((np.asarray(picture) == colour).all(-1).mean())


def rgb(code: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(code.removeprefix("#")))


def test_pairs_show_both_sides_and_the_holdout_below() -> None:
    images = torch.cat([plain(4, GREEN), plain(4, RED)])
    released = plain(3, (0, 0, 200))
    members, holdout = np.array([[0, 2], [1, 0]]), np.array([[5, 1], [6, 1]])
    picture = draw_closest_pairs(images, released, members, holdout, np.linspace(0, 9, 8))
    assert share(picture, GREEN) == share(picture, RED) > 0.02
    assert share(picture, (0, 0, 200)) == pytest.approx(2 * share(picture, GREEN))
    rows = np.asarray(picture)
    green, red = (np.flatnonzero((rows == c).all(-1).any(1)) for c in (GREEN, RED))
    assert green.max() < red.min()
    without = draw_closest_pairs(images, released, members, holdout)
    assert without.height < picture.height


def test_the_exposed_are_all_shown_in_rows_of_eight() -> None:
    sixteen = draw_exposed(plain(16, GREEN), ["a long class name"] * 16, range(1, 17), [1.5] * 16)
    eight = draw_exposed(plain(8, GREEN), ["bag"] * 8, range(1, 9), [1.5] * 8)
    assert sixteen.width == eight.width < 900
    assert share(sixteen, GREEN) * sixteen.height == pytest.approx(2 * share(eight, GREEN) * eight.height)  # fmt: skip
    with pytest.raises(ValueError, match="nothing"):
        draw_exposed(plain(0, GREEN), [], [], [])


def test_histograms_and_roc_have_a_panel_or_line_a_model() -> None:
    random = np.random.default_rng(0)
    inside = np.arange(200) < 100
    scores = {model: random.normal(size=200) + inside for model in ("teacher", "student")}
    scores["student"][:] = 0  # a model that says nothing
    both = draw_histograms({model: (values, inside) for model, values in scores.items()})
    one = draw_histograms({"teacher": (scores["teacher"], inside)})
    assert both.width > 1.5 * one.width
    for picture in (both, draw_roc(scores, inside)):
        for model in scores:
            assert share(picture, rgb(COLORS[model])) > 0
    assert share(one, rgb(COLORS["student"])) == 0


def test_roc_shows_the_proven_limit_if_there_is_one() -> None:
    random = np.random.default_rng(0)
    inside = np.arange(200) < 100
    scores = {"teacher": random.normal(size=200) + inside}
    plain, strict, loose = (
        draw_roc(scores, inside, proven)
        for proven in (
            None,
            trade_off([Mechanism(mechanism="gaussian", noise_multiplier=4)]),
            trade_off([Mechanism(mechanism="gaussian", noise_multiplier=0.25)]),
        )
    )
    assert share(plain, rgb(FORBIDDEN)) == 0
    assert share(strict, rgb(FORBIDDEN)) > 0.001
    assert share(strict, rgb(COLORS["teacher"])) > 0.001
    # What is impossible is shaded: much of the picture under a strict proof, nearly nothing under a loose one.
    white = [share(picture, (255, 255, 255)) for picture in (strict, loose)]
    assert white[0] < white[1] - 0.1


def around(number: float) -> dict[str, float]:
    return {"low": number - 0.01, "high": number + 0.01}


def test_longer_bars_for_larger_leaks() -> None:
    of_arm = ("adapter", "captions")
    channels = [SOFT_LABELS, *of_arm, "all"]
    shares = [0.1, 0.0, -0.01, 0.1]

    def drawn(leak: float) -> Image.Image:
        return draw_attribution(
            Attribution(
                n_shadows=8,
                channels=tuple(
                    ChannelShare(
                        channel=name, share=share, alone=0.0, without=None, **around(share)
                    )
                    for name, share in zip(channels, shares, strict=True)
                ),
                students=tuple(
                    StudentLeak(
                        student=student_name(way, of_arm),
                        opened=tuple(compress(channels, way)),
                        auc=leak + 0.5,
                        leak=leak,
                        **around(leak),
                    )
                    for way in every_way(of_arm)
                ),
            )
        )

    assert share(drawn(0.08), rgb(OTHERS)) > 4 * share(drawn(0.01), rgb(OTHERS)) > 0
    assert draw_attribution(None).height < 100


@pytest.mark.parametrize(
    "name", ["two\nlines", "$x_1^2$ $", "caf\udce9", "x" * 300, "\u202eevil", "nul\x00l", ""]
)
def test_any_class_name_can_be_drawn(name: str) -> None:
    """A line break in a name stopped the run at its very end."""
    images = plain(2, GREEN)
    picture = draw_exposed(images, [name, "b"], [1, 2], [1.0, 0.5])
    assert picture.size == draw_exposed(images, ["a", "b"], [1, 2], [1.0, 0.5]).size
    assert sheet([(name, images)], title=name or None).mode == "RGB"
