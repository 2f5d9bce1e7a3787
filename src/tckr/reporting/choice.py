"""Draw how the generator was chosen: the accuracy of every short student, and what that cost."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from PIL import Image

from tckr.reporting.style import notice
from tckr.synthesizers.choice import CHOSEN

SHADES = ("#93c5fd", "#60a5fa", "#2563eb", "#1e3a8a", "#172554")
RING = "#111827"
# Of each part of a choice the column along the axis, and what that is.
AXES = {
    "snapshot": ("steps", "optimizer steps of the generator"),
    "tuning": ("trial", "trial of the sampling"),
}


def draw_choice(students: pd.DataFrame) -> Image.Image:
    """Draw the accuracy of each student: by the steps behind its snapshot, a line a round, and trial by trial;
    rings are around those of the winner.

    Args:
        students: of `tckr.synthesizers.choice.choose`.
    """
    from matplotlib.ticker import MaxNLocator

    from tckr.reporting.style import new_figure, rendered

    parts = [part for part in AXES if (students["part"] == part).any()]
    if not parts:
        return notice("Nothing was chosen: the last snapshot, sampled as configured.")
    figure = new_figure(4.4 * len(parts), 3.2, len(parts))
    for axes, part in zip(figure.axes, parts, strict=True):
        own = students[students["part"] == part]
        column, words = AXES[part]
        for number, rows in own.groupby("round"):
            color = SHADES[min(int(number), len(SHADES) - 1)]
            at = rows[column].astype(float)
            line = "-" if part == "snapshot" else ""
            axes.plot(
                at,
                rows["accuracy"],
                color=color,
                marker="o",
                linestyle=line,
                label=f"{rows['images'].iloc[0]:,} images",
            )
        chosen = own[own["state"] == CHOSEN]
        if len(chosen):
            axes.plot(
                chosen[column].astype(float),
                chosen["accuracy"],
                color=RING,
                marker="o",
                markersize=11,
                fillstyle="none",
                linestyle="",
                label="chosen",
            )
        axes.set(xlabel=words, ylabel="validation accuracy of the student, %")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(
            frameon=False,
            fontsize=8,
            ncols=4,
            loc="lower center",
            bbox_to_anchor=(0.5, 1.0),
            columnspacing=1.0,
            handletextpad=0.4,
        )
    return rendered(figure)


def say_choice(choice: Mapping[str, Any], students: pd.DataFrame) -> list[str]:
    """Say in sentences what was chosen, among how many, by how many students, and what it cost.

    >>> say_choice({"snapshot": 1, "sampling": {}}, pd.DataFrame(columns=["part", "seconds", "images", "snapshot"]))
    ['Snapshot 1 of the generator was sampled, without a choice.']
    """
    said = []
    snapshots = students[students["part"] == "snapshot"]
    trials = students[students["part"] == "tuning"]
    if choice["snapshot"] is not None:
        among = snapshots["snapshot"].nunique()
        how = f"chosen of {among} by successive halving" if among else "without a choice"
        said.append(f"Snapshot {choice['snapshot']} of the generator was sampled, {how}.")
    if len(trials):
        values = ", ".join(f"{name} {value:.4g}" for name, value in choice["sampling"].items())
        if choice.get("filter"):
            threshold = choice["filter"]["threshold"]
            values += ", no filter" if threshold is None else f", filter above {threshold:.2g}"
        given_up = trials.drop_duplicates("trial", keep="last")["state"].eq("pruned").sum()
        tried, largest = trials["trial"].nunique(), trials[trials["round"] == trials["round"].max()]
        chosen = largest[largest["state"] == CHOSEN]
        better = chosen.empty or largest["accuracy"].max() <= chosen["accuracy"].iloc[0]
        ways = f"of {tried} ways to sample ({given_up} given up early)"
        found = (
            f"The best {ways}"
            if better
            else f"None {ways} was better beyond noise than the arm's own"
        )
        said.append(f"{found}: {values or 'as configured'}.")
    if len(students):
        minutes, images = students["seconds"].sum() / 60, students["images"].sum()
        said.append(
            f"{len(students)} short students, {images:,} images, {minutes:.1f} minutes; scored on validation images, which"
            " are in neither members nor holdout."
        )
    return said
