"""Descriptions say what is in the picture."""

import torch

from tckr.foundation.attributes import describe


def picture(ground: tuple[int, int, int]) -> torch.Tensor:
    return torch.tensor(ground, dtype=torch.uint8)[:, None, None].repeat(1, 32, 32)


def test_a_red_bar_on_white() -> None:
    image = picture((255, 255, 255))
    image[:, 4:28, 14:18] = torch.tensor([220, 0, 0], dtype=torch.uint8)[:, None, None]
    text = describe(image[None])[0]
    assert text.startswith(
        "tiny very tall red full shape, straight even outline, whole top whole bottom, flat smooth"
    )
    assert text.endswith("symmetric level centred, on plain white background")


def test_two_legs_are_seen() -> None:
    image = picture((0, 0, 0))
    image[:, 4:14, 8:24] = 200
    image[:, 14:28, 8:13] = 200
    image[:, 14:28, 19:24] = 200
    assert "whole top split bottom" in describe(image[None])[0]


def test_mirroring_swaps_only_left_and_right() -> None:
    image = picture((0, 0, 0))
    image[:, 10:20, 4:26] = 150
    image[:, 2:10, 4:12] = 250
    text, mirrored = describe(torch.stack([image, image.flip(2)]))
    assert "heavier left" in text
    assert mirrored == text.replace("heavier left", "heavier right")


def test_empty_and_noisy_images_are_described_too() -> None:
    noise = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    assert len(describe(torch.cat([picture((9, 9, 9))[None], noise]))) == 2
