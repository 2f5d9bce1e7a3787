"""Draw the cardinality sweep: accuracy, AUC_MIA and AOP against the size of the synthetic set."""

from typing import TYPE_CHECKING

import pandas as pd

from tckr.reporting.style import COLORS, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = {"accuracy": "accuracy, %", "AUC_MIA": "AUC_MIA, %", "AOP": "AOP"}
GRAY = "#9ca3af"


def curves(sweep: pd.DataFrame, confidence: float) -> "Figure":
    """Draw one panel per figure: the students against cardinality (log axis), the teacher as a horizontal line.

    Args:
        sweep: rows of teacher and students, with the columns `accuracy` and, if audited, `AUC_MIA` and `AOP`, each with
            `_low` and `_high`, in percent.
        confidence: of the intervals, which are drawn as bands.
    """
    shown = [name for name in PANELS if name in sweep]
    figure = new_figure(0.4 + 3.4 * len(shown), 3.3, panels=len(shown))
    teacher = sweep[sweep["model"] == "teacher"].iloc[0]
    students = sweep[sweep["model"] == "student"]
    for name, axes in zip(shown, figure.axes, strict=True):
        _panel(axes, name, teacher, students)
    if "AUC_MIA" in shown:
        axes = figure.axes[shown.index("AUC_MIA")]
        axes.axhline(50, color=GRAY, linewidth=1, linestyle=":", label="guessing")
    drawn = {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if "band" in drawn:
        drawn[f"{100 * confidence:g} % interval"] = drawn.pop("band")
    figure.legend(
        drawn.values(), drawn.keys(), loc="outside lower center", ncols=len(drawn), frameon=False
    )
    return figure


def _panel(axes: "Axes", name: str, teacher: pd.Series, students: pd.DataFrame) -> None:
    """Draw one figure of all models."""
    from matplotlib.ticker import NullLocator

    at = students["cardinality"].to_numpy(dtype=float)
    axes.axhline(
        teacher[name], color=COLORS["teacher"], linewidth=1.4, linestyle="--", label="teacher"
    )
    shown = students[name].astype(float)  # NaN where the leak is not measured
    axes.plot(at, shown, "-o", color=COLORS["student"], markersize=4, label="student")
    if f"{name}_low" in students:
        low, high = (students[f"{name}_{end}"].astype(float) for end in ("low", "high"))
        axes.fill_between(at, low, high, color=COLORS["student"], alpha=0.16, lw=0, label="band")
        ends = (teacher[f"{name}_low"], teacher[f"{name}_high"])
        axes.axhspan(*ends, color=COLORS["teacher"], alpha=0.12, lw=0)
    axes.set(xscale="log", xlabel="synthetic images / members")
    axes.set_title(PANELS[name], loc="left", fontsize=10)
    axes.set_xticks(at, [f"{value:g}" for value in at])
    axes.xaxis.set_minor_locator(NullLocator())
