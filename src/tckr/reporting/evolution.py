"""Pictures of Private Evolution: the best prompts with their renderings, and the distance by iteration."""

from textwrap import fill
from typing import TYPE_CHECKING

import pandas as pd
from PIL import Image

from tckr.images.fonts import class_label
from tckr.reporting.style import new_figure, rendered

if TYPE_CHECKING:
    from torch import Tensor

CLASSES, ITERATIONS = 10, 6  # of a picture, at most
WIDTH = 34  # letters of a line of a prompt


def best_candidates(generations: pd.DataFrame) -> pd.DataFrame:
    """Return the candidate with most votes of every class in some iterations, the first and the last among them.

    Args:
        generations: iteration, label, class_name, prompt, votes, rank.
    """
    turns = sorted(generations["iteration"].unique())
    if len(turns) > ITERATIONS:
        step = (len(turns) - 1) / (ITERATIONS - 1)
        turns = [turns[round(i * step)] for i in range(ITERATIONS)]
    labels = sorted(generations["label"].unique())[:CLASSES]
    shown = generations["iteration"].isin(turns) & generations["label"].isin(labels)
    first = generations[shown & (generations["rank"] == 0)]
    return first.sort_values(["label", "iteration"], ignore_index=True)


def best_prompts(chosen: pd.DataFrame, images: "Tensor") -> Image.Image:
    """Draw a row per class and a column per iteration: the prompt with most votes, what it looks like, its noisy votes.

    Args:
        chosen: of `best_candidates`.
        images: uint8 (rows, C, H, W), one of each.
    """
    from tckr.images.tensors import to_pil

    labels, turns = sorted(chosen["label"].unique()), sorted(chosen["iteration"].unique())
    figure = new_figure(1.75 * len(turns) + 0.4, 2.1 * len(labels) + 0.4, 1)
    figure.clear()
    grid = figure.subplots(len(labels), len(turns), squeeze=False)
    for row, image in zip(chosen.itertuples(), images, strict=True):
        axes = grid[labels.index(row.label)][turns.index(row.iteration)]
        picture = to_pil(image.permute(1, 2, 0).numpy())
        axes.imshow(picture.convert("RGB"), interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        text = row.prompt.removeprefix(f"{row.class_name}: ")
        axes.set_xlabel(fill(f"{row.votes} votes: {text}", WIDTH), fontsize=5)
        if row.iteration == turns[0]:
            axes.set_ylabel(class_label(row.class_name, row.label), fontsize=8)
        if row.label == labels[0]:
            axes.set_title(f"iteration {row.iteration}", fontsize=8)
    return rendered(figure)


def distance_curve(distances: pd.DataFrame) -> Image.Image:
    """Plot the distance of each population to the private set.

    Args:
        distances: iteration (0: random prompts), distance (of noisy votes); and true_distance, in a study that measured it.
    """
    figure = new_figure(4.8, 3.2)
    (axes,) = figure.axes
    axes.plot(
        distances["iteration"], distances["distance"], marker="o", color="#2563eb",
        label="as the last noisy votes see it",
    )  # fmt: skip
    if "true_distance" in distances:
        axes.plot(
            distances["iteration"], distances["true_distance"], marker="s", color="#b45309",
            label="true: not private, not to be released",
        )  # fmt: skip
    axes.axhline(0, color="#5b6470", linewidth=0.7)
    axes.set_xlabel("iteration (0: random prompts)")
    axes.set_ylabel("energy distance to the private set")
    axes.set_xticks(distances["iteration"])
    axes.legend(fontsize=7, frameon=False)
    return rendered(figure)
