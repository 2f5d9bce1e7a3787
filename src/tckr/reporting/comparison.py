"""Draw the arms beside each other, accuracy against leak, and write the page that compares them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from tckr.audit.comparison import TEACHER
from tckr.reporting.report import embedded, templates, used_versions
from tckr.reporting.style import COLORS, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# One for each arm, in order; the teacher's is that of every picture.
PALETTE = ("#2563eb", "#0f766e", "#7c3aed", "#be185d", "#4d7c0f", "#0e7490", "#57534e")
FAINT = "#9ca3af"
LEVELS = (20, 40, 60, 80)  # AOP of the lines behind the points
APART = 0.085  # between two names, as a share of the height
PLACE = 1.035  # of the names, right of the axes, as a share of the width


def draw_comparison(table: pd.DataFrame, confidence: float) -> "Figure":
    """Draw accuracy against AUC_MIA: each arm as a point with its interval, and the largest AUC that is proven as a bar.

    Args:
        table: of `tckr.audit.comparison.compare`.
        confidence: of the intervals.
    """
    figure = new_figure(7.6, 4.4)
    axes = figure.axes[0]
    shown = table.sort_values("accuracy", ascending=False, ignore_index=True)
    colors = _colors(table["arm"].tolist())
    reach = max(float(table["accuracy"].max() - table["accuracy"].min()), 10)
    low = max(float(table["accuracy"].min()) - 0.18 * reach, 0)
    high = min(float(table["accuracy"].max()) + 0.18 * reach, 100)
    left = min(float(table["AUC_MIA_low"].fillna(50).min()), 50) - 2
    axes.set(xlim=(left, 102), ylim=(low, high))
    axes.set_xlabel("leak: AUC of the membership attack on the student, %")
    axes.set_ylabel("accuracy on the private test images, %")
    _draw_levels(axes, left, low, high, table["accuracy"].to_numpy())
    axes.axvline(50, color=FAINT, linewidth=1, linestyle=":")
    places = spread((shown["accuracy"] - low) / (high - low), APART)
    # An arm whose leak is not measured is a point at the left edge, without an interval.
    shown = shown.fillna(dict.fromkeys(("AUC_MIA", "AUC_MIA_low", "AUC_MIA_high"), left))
    for row, place in zip(shown.to_dict("records"), places, strict=True):
        _draw_arm(axes, row, colors[row["arm"]], float(place))
    _draw_key(axes, confidence)
    return figure


def spread(places: Any, apart: float) -> NDArray[np.float64]:
    """Return places in [0, 1], given in descending order, moved as little as needed to be `apart` from each other.

    >>> spread([0.9, 0.9, 0.2], apart=0.1).round(2).tolist()
    [0.95, 0.85, 0.2]
    """
    wanted = np.asarray(places, np.float64)
    steps = apart * np.arange(len(wanted))
    # Isotonic regression of the places, each moved down by the distance that those above it need.
    blocks: list[list[float]] = []
    for value in wanted + steps:
        blocks.append([value])
        while len(blocks) > 1 and np.mean(blocks[-2]) < np.mean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    moved = np.concatenate([[np.mean(block)] * len(block) for block in blocks]) - steps
    moved += max(-float(moved.min()), 0)
    return np.asarray(moved - max(float(moved.max()) - 1, 0))


def write_comparison(
    table: pd.DataFrame,
    picture: Image.Image,
    remarks: Sequence[str],
    *,
    ingestion_report: Mapping[str, Any],
    confidence: float,
    lineage: Mapping[str, str],
    reports: Mapping[str, str],
) -> str:
    """Return one self-contained HTML page in the style of an arm's report.

    Args:
        table: of `tckr.audit.comparison.compare`.
        picture: of `draw_comparison`, rendered.
        remarks: sentences below the table.
        ingestion_report: of the private set.
        confidence: of the intervals.
        lineage: facts of the run by their title.
        reports: catalog entry of each arm's own report.
    """
    page = templates("comparison.html")
    alt = "accuracy of each arm's student against the AUC of the attack on it, with what is proven"
    return page.render(
        rows=table.to_dict("records"),
        teacher=TEACHER,
        picture={**embedded(picture), "alt": alt},
        remarks=list(remarks),
        ingestion=ingestion_report,
        confidence=confidence,
        lineage=dict(lineage),
        reports=dict(reports),
        versions=used_versions(),
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _colors(arms: Sequence[str]) -> dict[str, str]:
    drawn = [arm for arm in arms if arm != TEACHER]
    return {TEACHER: COLORS[TEACHER]} | {
        arm: PALETTE[i % len(PALETTE)] for i, arm in enumerate(drawn)
    }


def _draw_levels(
    axes: "Axes", left: float, low: float, high: float, taken: NDArray[np.float64]
) -> None:
    """Draw lines of equal AOP, each named at its right end, where it is far from the heights that are taken."""
    leak = np.linspace(left, 102, 400)
    for level in LEVELS:
        # AOP = accuracy / max(2 AUC, 1)^2, solved for the accuracy.
        accuracy = level * np.maximum(2 * leak / 100, 1) ** 2
        inside = (accuracy > low) & (accuracy < high)
        if not inside.any():
            continue
        axes.plot(leak, accuracy, color="#e5e7eb", linewidth=1, zorder=0.5)
        end = np.flatnonzero(inside & (leak > 50))
        end = end[len(end) // 2 :] if len(end) else np.flatnonzero(inside)[-1:]
        room = np.abs(accuracy[end, None] - taken).min(1)
        place = end[int(room.argmax())]
        at = (leak[place], accuracy[place])
        axes.annotate(
            f"AOP {level}",
            at,
            xytext=(-3, -3),
            textcoords="offset points",
            ha="right",
            va="top",
            fontsize=7,
            color=FAINT,
        )


def _draw_arm(axes: "Axes", row: Mapping[str, Any], color: str, place: float) -> None:
    """Draw an arm's point, interval and bound, and its name at a height of its own beside the picture."""
    y, proven = row["accuracy"], np.isfinite(row["epsilon"])
    ends = [[row["AUC_MIA"] - row["AUC_MIA_low"]], [row["AUC_MIA_high"] - row["AUC_MIA"]]]
    axes.errorbar(
        row["AUC_MIA"], y, xerr=ends, fmt="o", color=color, markersize=6, elinewidth=1.6, capsize=3
    )
    right = row["AUC_MIA_high"]
    if proven:
        right = row["AUC_MIA_bound"]
        axes.plot([row["AUC_MIA_high"], right], [y, y], color=color, linewidth=1.2, alpha=0.55)
        axes.plot(right, y, "|", color=color, markersize=16, markeredgewidth=2.4)
    words = f"epsilon {row['epsilon']:.3g}" if proven else "nothing proven"
    words += ", leak not measured" if np.isnan(row["AOP"]) else ""
    name = "real data (teacher)" if row["arm"] == TEACHER else row["arm"]
    axes.annotate(
        f"{name}\n",
        (right, y),
        xytext=(PLACE, place),
        textcoords="axes fraction",
        color=color,
        fontweight="bold",
        va="center",
        arrowprops={
            "arrowstyle": "-",
            "color": color,
            "linewidth": 0.7,
            "linestyle": ":",
            "relpos": (0, 0.5),
            "shrinkA": 2,
            "shrinkB": 5,
        },
        annotation_clip=False,
    )
    axes.annotate(
        f"\n{y:.1f} %, {words}",
        (0, 0),
        xytext=(PLACE, place),
        textcoords="axes fraction",
        va="center",
        fontsize=8,
        color="#4b5563",
        annotation_clip=False,
    )


def _draw_key(axes: "Axes", confidence: float) -> None:
    from matplotlib.lines import Line2D

    dark = "#374151"
    axes.figure.legend(
        [
            Line2D([], [], color=dark, marker="o", linewidth=1.6),
            Line2D([], [], color=dark, marker="|", markersize=12, markeredgewidth=2.4, linewidth=0),
            Line2D([], [], color=FAINT, linestyle=":"),
        ],
        [
            f"measured, {100 * confidence:g} % interval",
            "proven: no attack finds more",
            "guessing",
        ],
        loc="outside lower left",
        ncols=3,
        frameon=False,
        fontsize=8,
    )
