"""Draw the pictures of the audit: ROC, score histograms, channels of the leak, closest pairs, exposed images."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tckr.audit.results import Attribution
from tckr.dp.trade_off import TradeOff
from tckr.images.fonts import drawable
from tckr.images.names import one_line
from tckr.reporting.style import (
    COLORS,
    FORBIDDEN,
    IMPOSSIBLE,
    LIMIT,
    LIMIT_OF_TWO,
    new_figure,
    notice,
    rendered,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TILE = 84
GAP = 10
LINE = 17
FONT_SIZE = 13
MARGIN = 24
BACKGROUND = "#fbfbf9"
INK = "#22272e"
FAINT = "#6b7280"
FRAME = "#dcdcd6"
OTHERS = "#9ca3af"
BAR = "#0f766e"
BINS = 40

# A tile: one image uint8 (C, H, W), or a pair drawn side by side, and the lines of its caption.
Tile = tuple[Sequence[torch.Tensor], Sequence[str]]


def draw_closest_pairs(
    images: torch.Tensor,
    released: torch.Tensor,
    member_pairs: NDArray[np.int64],
    holdout_pairs: NDArray[np.int64],
    scores: NDArray[np.float64] | None = None,
) -> Image.Image:
    """Draw the images closest to the release, each to the left of its nearest released image.

    Below the members' pairs come those of the holdout, which the release cannot know. Only if the upper pairs are more
    alike than the lower ones does the release disclose members.

    Args:
        images: uint8 (N, C, H, W), members and holdout, indexed by the pairs.
        released: uint8 (M, C, H, W).
        member_pairs: (n, 2) of `tckr.attacks.nearest_neighbour.closest_pairs` among the members.
        holdout_pairs: the same among the holdout.
        scores: (N,), log density ratio; with it the caption of each pair says how many times nearer the release is
            than other images of the distribution.
    """
    sections = [
        (
            title,
            [
                (
                    [images[i], released[j]],
                    [] if scores is None else [f"{_times(scores[i])} nearer"],
                )
                for i, j in pairs
            ],
        )
        for title, pairs in (
            ("Members (left) and the released images nearest to them (right)", member_pairs),
            ("For comparison: holdout images, which the release cannot know", holdout_pairs),
        )
    ]
    return _gallery(sections, columns=4)


def draw_exposed(
    images: torch.Tensor, labels: Sequence[str], ranks: Sequence[int], scores: Sequence[float]
) -> Image.Image:
    """Draw the most exposed images, eight per row, with class, rank and separation. For the data owner only.

    Args:
        images: uint8 (n, C, H, W), most exposed first.
        labels: class names.
        ranks: 1 = most exposed.
        scores: separation of `tckr.audit.vulnerability`.
    """
    tiles: list[Tile] = [
        ([image], [label, f"#{rank}: {score:.1f}"])
        for image, label, rank, score in zip(images, labels, ranks, scores, strict=True)
    ]
    title = "The most exposed images: rank and separation in standard deviations"
    return _gallery([(title, tiles)], columns=8)


def draw_histograms(
    scores: Mapping[str, tuple[NDArray[np.float64], NDArray[np.bool_]]],
) -> Image.Image:
    """Draw histograms of the attack scores of members and non-members, one panel per model.

    Args:
        scores: by model, attack scores (N,) and membership, bool (N,).
    """
    figure = new_figure(width=3.6 * max(len(scores), 1), height=3.0, panels=len(scores))
    for axes, (model, (values, inside)) in zip(figure.axes, scores.items(), strict=True):
        # A few extreme scores would squeeze the rest into one bar, so they are counted in the outermost bins.
        low, high = np.quantile(values, [0.005, 0.995])
        edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
        shown = np.clip(values, edges[0], edges[-1])
        color = COLORS.get(model, BAR)
        style: dict[str, Any] = {"bins": edges, "density": True}
        axes.hist(shown[~inside], color=OTHERS, alpha=0.55, label="non-members", **style)
        axes.hist(shown[inside], color=color, histtype="step", linewidth=1.6, label="members", **style)  # fmt: skip
        axes.set(title=model, xlabel="attack score", yticks=[])
        axes.legend(frameon=False, fontsize=8)
    figure.axes[0].set_ylabel("share of images")
    return rendered(figure)


def draw_roc(
    scores: Mapping[str, NDArray[np.float64]],
    inside: NDArray[np.bool_],
    proven: TradeOff | None = None,
) -> Image.Image:
    """Draw the ROC of an attack on each model twice: on logarithmic axes, where leaks show at the left edge, and on plain ones.

    Args:
        scores: by model, attack scores (N,).
        inside: bool (N,), True for members.
        proven: what the ledger proves for one image; drawn with the curve for two changes, as in the audit's comparison.
    """
    from tckr.metrics import roc

    lowest = 0.5 / max(int((~inside).sum()), 1)
    figure = new_figure(width=9.4, height=4.9, panels=2)
    for axes, scale, start in zip(figure.axes, ("log", "linear"), (lowest, 0.0), strict=True):
        for model, values in scores.items():
            false, true = roc(values, inside)
            color = COLORS.get(model, BAR)
            style: dict[str, Any] = {"color": color, "linewidth": 1.8, "label": model}
            axes.plot(false.clip(start), true.clip(start), **style)
        if proven is not None:
            _draw_bounds(axes, proven, np.geomspace(lowest, 1, 400) if start else np.linspace(0, 1, 400))  # fmt: skip
        axes.plot([start, 1], [start, 1], color=OTHERS, linewidth=1, linestyle="--", label="guessing")  # fmt: skip
        axes.set(xscale=scale, yscale=scale, xlim=(start, 1), ylim=(start, 1))
        axes.set_xlabel("false-positive rate (non-members taken for members)")
        axes.set_title(f"{'logarithmic' if start else 'plain'} axes", loc="left", fontsize=9)
    figure.axes[0].set_ylabel("true-positive rate (members found)")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    columns = len(labels) if proven is None else 3
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
    return rendered(figure)


def _draw_bounds(axes: "Axes", proven: TradeOff, at: NDArray[np.float64]) -> None:
    """Draw what is proven: no attack on one image can come above the solid line, nor the audit above the dotted one."""
    one, two = proven.tpr(at), proven.twice.tpr(at)
    axes.fill_between(at, two, 1, color=FORBIDDEN, alpha=0.09, lw=0, label=IMPOSSIBLE)
    axes.plot(at, one, color=FORBIDDEN, linewidth=1.6, label=LIMIT)
    axes.plot(at, two, color=FORBIDDEN, linewidth=1.2, linestyle=":", label=LIMIT_OF_TWO)


def draw_attribution(found: Attribution | None) -> Image.Image:
    """Draw how much of the student's leak enters through each channel; the line at 0 is no leak.

    Args:
        found: see `tckr.audit.attribution.attribute`; None draws a line of text that says how to measure it.
    """
    if found is None:
        return notice("Channels of the leak: not measured. Set privacy_audit.attribution: true")
    channels = [(row.channel, row.share, row.low, row.high) for row in found.channels]
    students = [(row.student, row.leak, row.low, row.high) for row in found.students]
    bars = channels + students
    figure = new_figure(width=6.4, height=1.3 + 0.3 * (len(bars) + 2))
    axes = figure.axes[0]
    rows = -np.array([*range(1, len(channels) + 1), *range(len(channels) + 2, len(bars) + 2)])
    colors = [BAR] * len(channels) + [OTHERS] * len(students)
    value, low, high = 100 * np.array([bar[1:] for bar in bars], dtype=float).T
    axes.barh(rows, value, height=0.62, color=colors)
    ends = np.maximum([value - low, high - value], 0)
    axes.errorbar(value, rows, xerr=ends, fmt="none", ecolor=INK, elinewidth=1.1, capsize=2.5)
    axes.axvline(0, color=INK, linewidth=1, linestyle="--")
    left, right = min(low.min(), 0), max(high.max(), 0)
    reach = max(right - left, 1)
    for row, number, end in zip(rows, value, high, strict=True):
        axes.text(max(end, 0) + 0.02 * reach, row, f"{number:+.1f}", va="center", fontsize=8)
    axes.set(xlim=(left - 0.04 * reach, right + 0.13 * reach), ylim=(-len(bars) - 1.6, 0.6))
    for row, text in (
        (0, "What each channel adds"),
        (rows[len(channels)] + 1, "Leak of a student with these channels open"),
    ):
        axes.text(
            left - 0.03 * reach,
            row,
            text,
            va="center",
            fontweight="bold",
            fontsize=8.5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
        )
    axes.set_yticks(rows, labels=[str(bar[0]) for bar in bars])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("leak: AUC of the attack above guessing, in points")
    return rendered(figure)


def _times(log_ratio: float) -> str:
    times = float(np.exp(log_ratio))
    return f"{times:,.1f} times" if times < 1000 else "over 1,000 times"


def _gallery(sections: Sequence[tuple[str, Sequence[Tile]]], columns: int) -> Image.Image:
    """Draw titled sections of captioned tiles of equal size, `columns` per row."""
    tiles = [tile for _, section in sections for tile in section]
    if not tiles:
        raise ValueError("There is nothing to draw.")
    across, lines = len(tiles[0][0]), len(tiles[0][1])
    width, height = across * TILE + GAP // 2 * (across - 1), TILE + lines * LINE + GAP
    widest = min(columns, max(len(section) for _, section in sections))
    title_font = drawable("", FONT_SIZE + 4)[1]
    rows = [-(-len(section) // columns) for _, section in sections]
    titles = max(title_font.getlength(title) for title, _ in sections)
    right = max(widest * (width + 2 * GAP) - 2 * GAP, round(titles))
    bottom = sum(3 * LINE + count * (height + GAP) for count in rows)
    canvas = Image.new("RGB", (right + 2 * MARGIN, bottom + 2 * MARGIN - LINE), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    top = MARGIN
    for (title, section), count in zip(sections, rows, strict=True):
        draw.text((MARGIN, top), title, fill=INK, font=title_font, anchor="lt")
        for index, (pictures, captions) in enumerate(section):
            x = MARGIN + index % columns * (width + 2 * GAP)
            y = top + 2 * LINE + index // columns * (height + GAP)
            for place, picture in enumerate(pictures):
                _paste(canvas, picture, x + place * (TILE + GAP // 2), y)
            for number, text in enumerate(captions):
                ink = INK if number == 0 else FAINT
                below = y + TILE + 5 + number * LINE
                fitting, font = _fitting(text, width)
                draw.text((x, below), fitting, fill=ink, font=font, anchor="lt")
        top += 3 * LINE + count * (height + GAP)
    return canvas


def _paste(canvas: Image.Image, picture: torch.Tensor, x: int, y: int) -> None:
    """Paste the image centered in a framed tile; small ones are enlarged by whole factors, without smoothing."""
    from tckr.images.sheets import enlarged
    from tckr.images.tensors import to_pil

    tile = enlarged(to_pil(picture.permute(1, 2, 0).cpu().numpy()).convert("RGB"), TILE)
    canvas.paste(tile, (x + (TILE - tile.width) // 2, y + (TILE - tile.height) // 2))
    ImageDraw.Draw(canvas).rectangle((x - 1, y - 1, x + TILE, y + TILE), outline=FRAME)


def _fitting(text: str, width: int) -> tuple[str, Any]:
    """Return the text in one line, truncated where it would run into the next tile, and its font."""
    text, font = drawable(f"{one_line(text)}\u2026", FONT_SIZE)
    text = text[:-1]
    if font.getlength(text) <= width:
        return text, font
    while text and font.getlength(text + "\u2026") > width:
        text = text[:-1]
    return text.rstrip() + "\u2026", font
