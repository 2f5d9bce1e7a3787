"""The picture and the page of several arms show what the table says."""

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from compared import result, spent
from tckr.audit.comparison import ArmResult, compare, remarks
from tckr.reporting.comparison import draw_comparison, spread, write_comparison
from tckr.reporting.style import rendered


@pytest.fixture(scope="module")
def arms() -> Sequence[ArmResult]:
    """Five arms, four of them within a point of accuracy."""
    return [
        result("tckr", 85.7, 0.3),
        result("unadapted", 29.3, 0.0),
        result("private", 85.5, 0.02, spent(2.0)),
        result("privimage", 85.4, 0.02, spent(1.9)),
        result("other", 85.2, 0.1),
    ]


@pytest.fixture(scope="module")
def table(arms: Sequence[ArmResult]) -> pd.DataFrame:
    return compare(arms)


@pytest.fixture(scope="module")
def figure(table: pd.DataFrame) -> Figure:
    figure = draw_comparison(table, 0.95)
    FigureCanvasAgg(figure).draw()
    return figure


def test_no_name_covers_another(figure: Figure, table: pd.DataFrame) -> None:
    axes = figure.axes[0]
    boxes = {
        text.get_text().strip(): Text.get_window_extent(text)  # without the line that leads to it
        for text in axes.texts
        if not text.get_text().startswith("AOP")
    }

    assert len(boxes) == 2 * len(table)
    # The lines of a name and of its figures share a box, one of whose two lines is empty.
    halves = [
        (box.y0 + box.height / 2, box.y1) if "%" not in words else (box.y0, box.y0 + box.height / 2)
        for words, box in boxes.items()
    ]
    for (low, high), (other_low, other_high) in combinations(halves, 2):
        overlap = min(high, other_high) - max(low, other_low)
        assert overlap < 2, "pixels"
    assert all(box.x0 > axes.get_window_extent().x1 for box in boxes.values())


def test_every_arm_is_a_point_and_what_is_proven_a_bar(figure: Figure, table: pd.DataFrame) -> None:
    axes = figure.axes[0]
    points = {
        tuple(map(float, line.get_xydata()[0])) for line in axes.lines if line.get_marker() == "o"
    }
    bars = {tuple(map(float, line.get_xydata()[0])) for line in axes.lines if line.get_marker() == "|" and line.get_markersize() > 10}  # fmt: skip
    proven = table[np.isfinite(table["epsilon"])]

    assert points == set(zip(table["AUC_MIA"], table["accuracy"], strict=True))
    assert bars == set(zip(proven["AUC_MIA_bound"], proven["accuracy"], strict=True))
    assert len(bars) == 2
    left, right = axes.get_xlim()
    assert left < table["AUC_MIA_low"].min()
    assert right > table["AUC_MIA_bound"].max()
    assert figure.get_facecolor() == (1.0, 1.0, 1.0, 1.0)


def test_one_arm_alone_is_drawn_too() -> None:
    picture = rendered(draw_comparison(compare([result("private", 3.0, 0.0, spent(1.0))]), 0.95))

    assert picture.width > picture.height


@pytest.mark.parametrize("count", [1, 3, 9])
def test_names_are_spread_within_the_picture_in_their_order(count: int) -> None:
    for wanted in ([0.5] * count, [1.0] * count, [0.0] * count, np.linspace(1, 0, count)):
        places = spread(wanted, apart=0.1)
        assert places.max() <= 1 + 1e-9
        assert places.min() >= -1e-9
        assert (np.diff(places) <= -0.1 + 1e-9).all()


def test_the_page_holds_every_figure_and_escapes_names(
    table: pd.DataFrame, arms: Sequence[ArmResult], figure: Figure
) -> None:
    page = write_comparison(
        table,
        rendered(figure),
        remarks(arms),
        ingestion_report={"source": "<private>", "classes": ["a", "b"]},
        confidence=0.95,
        lineage={"Run": "2026-01-01"},
        reports={"tckr": "report", "unadapted": "unadapted.report"},
    )

    assert "&lt;private&gt;" in page
    assert "<private>" not in page
    assert "<title>tckr: the arms compared</title>" in page
    assert page.count("infinity") >= 4
    assert "data:image/png;base64," in page
    for row in table.to_dict("records"):
        assert f"{row['accuracy']:.1f}" in page
        assert f"{row['AUC_MIA_bound']:.1f}" in page
        assert f"{row['aop_certified']:.1f}" in page
        if math.isfinite(row["epsilon"]):
            assert f"{row['epsilon']:.3g}" in page
    assert "adds up" in page
    assert "unadapted.report" in page
    assert "http" not in page.replace("https://", "http").partition("<style>")[0]
