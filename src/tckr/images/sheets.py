"""Contact sheets: rows of images with captions, to look at."""

from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw

from tckr.images.fonts import drawable
from tckr.images.names import one_line
from tckr.images.tensors import to_pil

TILE = 72
GAP = 6
MARGIN = 24
BACKGROUND = "#fbfbf9"
INK = "#22272e"
FAINT = "#6b7280"
FRAME = "#dcdcd6"
FONT_SIZE = 15
LONGEST_CAPTION = 34


def sheet(
    rows: Sequence[tuple[str, torch.Tensor]],
    title: str | None = None,
    columns: int | None = None,
    tile: int = TILE,
) -> Image.Image:
    """Draw one row of images per caption.

    Args:
        rows: Caption and uint8 tensor (n, C, H, W) each; C = 1 or 3 and sizes may differ from row to row.
        title: Line above the rows.
        columns: Largest number of images shown per row; None shows all.
        tile: Edge of an image on the sheet, in pixels; small images are enlarged by integer factors, without smoothing.

    Returns:
        An image of mode RGB.

    Raises:
        ValueError: No rows, or images that are not uint8 (n, C, H, W).

    >>> noise = torch.randint(0, 256, (3, 1, 28, 28), dtype=torch.uint8)
    >>> sheet([("before", noise), ("after", noise)], title="Noise").mode
    'RGB'
    """
    if not rows:
        raise ValueError("A sheet needs at least one row.")
    title, title_font = drawable(one_line(title or ""), FONT_SIZE + 6)
    pictures = [
        (*drawable(_shortened(caption), FONT_SIZE), _tiles(images[:columns], tile))
        for caption, images in rows
    ]
    edge = max((picture.width for *_, line in pictures for picture in line), default=tile)
    left = MARGIN + round(max(font.getlength(caption) for caption, font, _ in pictures)) + 2 * GAP
    top = MARGIN + (2 * FONT_SIZE + GAP if title else 0)
    n_columns = max(len(line) for *_, line in pictures)
    right = left + n_columns * (edge + GAP) - GAP
    if title:
        right = max(right, MARGIN + round(title_font.getlength(title)))
    canvas = Image.new(
        "RGB", (right + MARGIN, top + len(rows) * (edge + GAP) - GAP + MARGIN), BACKGROUND
    )
    draw = ImageDraw.Draw(canvas)
    if title:
        draw.text((MARGIN, MARGIN), title, fill=INK, font=title_font, anchor="lt")
    for index, (caption, font, line) in enumerate(pictures):
        y = top + index * (edge + GAP)
        draw.text(
            (left - 2 * GAP, y + edge // 2),
            caption,
            fill=INK if line else FAINT,
            font=font,
            anchor="rm",
        )
        for column, picture in enumerate(line):
            x = left + column * (edge + GAP)
            canvas.paste(picture, (x, y))
            draw.rectangle((x - 1, y - 1, x + picture.width, y + picture.height), outline=FRAME)
    return canvas


def _tiles(images: torch.Tensor, tile: int) -> list[Image.Image]:
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise ValueError(f"uint8 (n, C, H, W) is needed, got {images.dtype} {tuple(images.shape)}.")
    arrays = images.detach().cpu().permute(0, 2, 3, 1).numpy()
    return [enlarged(to_pil(array).convert("RGB"), tile) for array in arrays]


def enlarged(image: Image.Image, tile: int) -> Image.Image:
    """Fit an image into a square of `tile` pixels; a small one grows by an integer factor, without smoothing."""
    longest = max(image.size)
    if longest > tile:
        factor = tile / longest
        return image.resize(
            (round(image.width * factor), round(image.height * factor)), Image.Resampling.LANCZOS
        )
    whole = max(1, round(tile / longest))
    return image.resize((image.width * whole, image.height * whole), Image.Resampling.NEAREST)


def _shortened(caption: str) -> str:
    caption = one_line(caption)
    return caption if len(caption) <= LONGEST_CAPTION else caption[: LONGEST_CAPTION - 1] + "\u2026"
