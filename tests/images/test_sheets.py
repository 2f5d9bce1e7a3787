import numpy as np
import pytest
import torch

from tckr.images.sheets import BACKGROUND, sheet


def rows_of(colours, channels, size=8):
    images = torch.zeros(len(colours), channels, size, size, dtype=torch.uint8)
    for image, colour in zip(images, colours, strict=True):
        image[:] = colour
    return images


def test_rows_of_different_channels_sizes_and_lengths_share_a_sheet():
    picture = sheet(
        [
            ("real", rows_of([10, 20, 30], 1)),
            ("recycled", rows_of([40, 50], 3)),
            ("large", rows_of([60], 3, size=200)),
            ("none", rows_of([], 1)),
        ],
        title="Two kinds",
    )
    assert picture.mode == "RGB"
    shown = {int(value) for value in np.unique(np.asarray(picture)[:, :, 0])}
    assert {10, 20, 30, 40, 50, 60} <= shown


def test_pixels_stay_hard():
    board = torch.tensor([[0, 255], [255, 0]], dtype=torch.uint8).view(1, 1, 2, 2)
    picture = np.asarray(sheet([("", board)], tile=20))
    edge = 20
    y, x = np.argwhere((picture == 0).all(axis=2))[0]
    tile = picture[y : y + edge, x : x + edge, 0]
    assert set(np.unique(tile)) == {0, 255}
    assert (tile[: edge // 2, : edge // 2] == 0).all()
    assert (tile[: edge // 2, edge // 2 :] == 255).all()


def test_columns_limit_and_long_captions():
    many = rows_of(list(range(30)), 1)
    narrow = sheet([("x" * 500, many)], columns=3)
    assert narrow.width < sheet([("x" * 500, many)]).width
    assert narrow.getpixel((1, 1)) == tuple(bytes.fromhex(BACKGROUND[1:]))


def test_refuses_no_rows_and_floats():
    with pytest.raises(ValueError, match="row"):
        sheet([])
    with pytest.raises(ValueError, match="uint8"):
        sheet([("a", torch.zeros(1, 1, 2, 2))])
