"""The style of every picture, and the pictures that several stages draw."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd
from PIL import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PER_CLASS = 12
CLASSES = 20
DOTS_PER_INCH = 160
FORBIDDEN = "#b91c1c"
LIMIT = "proven limit, one image more or less"
LIMIT_OF_TWO = "proven limit, one image in another's place (as in this audit)"
IMPOSSIBLE = "impossible if the ledger is right"
COLORS = {"teacher": "#b45309", "student": "#2563eb"}


def class_sheet(tables: Mapping[str, pd.DataFrame], title: str | None = None) -> Image.Image:
    """Draw the first images of every class, one row per class and table: `shirt, private` above `shirt, recycled`.

    Args:
        tables: image tables by the word that distinguishes them.
        title: printed above the rows.

    Returns:
        A contact sheet of at most 20 classes.
    """
    from tckr.images.fonts import class_label
    from tckr.images.sheets import sheet
    from tckr.images.tensors import to_tensor

    first = next(iter(tables.values())).drop_duplicates("label").sort_values("label")
    rows = []
    for name, number in first[["class_name", "label"]].head(CLASSES).itertuples(index=False):
        label = class_label(name, number)
        for word, table in tables.items():
            chosen = table.loc[table["class_name"] == name, "image"].head(PER_CLASS)
            if len(chosen):
                rows.append((f"{label}, {word}" if len(tables) > 1 else label, to_tensor(chosen)))
    return sheet(rows, title=title)


def pair_sheet(table: pd.DataFrame, pairs: Sequence[Sequence[str]], title: str) -> Image.Image:
    """Draw pairs of images of a table side by side, with their splits and classes.

    Args:
        table: image table.
        pairs: of image ids.
        title: printed above the rows.
    """
    from tckr.images.fonts import class_label
    from tckr.images.sheets import sheet
    from tckr.images.tensors import to_tensor

    by_id = table.set_index("image_id")
    rows = []
    for one, other in pairs:
        both = by_id.loc[[one, other]]
        classes = both.drop_duplicates("label")
        names = map(class_label, classes["class_name"], classes["label"])
        label = f"{' and '.join(both['split'])}: {' / '.join(names)}"
        rows.append((label, to_tensor(both["image"])))
    return sheet(rows, title=title)


def rendered(figure: "Figure") -> Image.Image:
    """Render a matplotlib figure to a picture."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, bbox_inches="tight")
    buffer.seek(0)
    return Image.open(buffer).convert("RGB")


def notice(text: str) -> Image.Image:
    """Return a picture of one line of text, for use where there is nothing to show."""
    from PIL import ImageDraw

    from tckr.images.fonts import drawable

    text, font = drawable(text, 14)
    width = round(font.getlength(text)) + 48
    canvas = Image.new("RGB", (width, 72), "#fcfcfa")
    ImageDraw.Draw(canvas).text((24, 36), text, fill="#5b6470", font=font, anchor="lm")
    return canvas


def new_figure(width: float = 5.2, height: float = 4.2, panels: int = 1) -> "Figure":
    """Return an empty figure with its panels side by side; without pyplot there is no window and no global state."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"font.family": "DejaVu Sans", "font.size": 9}):
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.subplots(1, panels)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e6e6e6", linewidth=0.7)
        axes.set_axisbelow(True)
    return figure
