"""Worthless outputs stop a run, poor ones are said in a sentence, good ones pass in silence."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tckr.errors import UserError
from tckr.images.degenerate import (
    RunWarning,
    check_captions,
    check_distinct,
    check_labels,
    check_teacher,
    count_blank,
    validation_facts,
    warnings_about,
    with_warnings,
)
from tckr.images.tensors import to_png

NAMES = ["ant", "bee", "two\nlines"]


def said(found: list[RunWarning]) -> str:
    return " ".join(warning.text for warning in found)


@pytest.mark.parametrize("empty", ["", " ", "\n"])
def test_captions_that_are_all_empty_stop_the_run(empty: str) -> None:
    with pytest.raises(UserError, match=r"All 60 captions are empty.*captioning\.captioner"):
        check_captions([empty] * 60)


def test_poor_captions_are_said() -> None:
    assert "All 3 captions are equal ('a bag')" in said(check_captions(["a bag"] * 3))
    assert said(check_captions(["a", "", ""])) == "2 of 3 captions are empty."
    assert check_captions(["a", "b"]) == check_captions(["a"]) == check_captions([]) == []


def test_equal_or_blank_images_stop_the_run() -> None:
    with pytest.raises(UserError, match="All 60 synthetic images are equal"):
        check_distinct(["same"] * 60)
    with pytest.raises(UserError, match="All 3 synthetic images are blank"):
        check_distinct(["a", "b", "c"], blank=3)
    assert check_distinct(["only"]) == []


def test_few_distinct_or_some_blank_images_are_said() -> None:
    found = said(check_distinct(["a"] * 7 + ["b"], blank=1))
    assert found.startswith("Only 2 of 8 synthetic images are distinct. 1 of 8")


def test_blank_images_are_counted() -> None:
    images = torch.zeros(3, 3, 4, 4, dtype=torch.uint8)
    images[0, 0] = 255  # one colour
    images[1, 2, 0, 0] = 1
    assert count_blank(to_png(images)) == 2
    assert count_blank(to_png(images[:, 2:])) == 2


@pytest.mark.parametrize(
    ("right", "images", "largest", "warned"),
    [
        (5, 15, 5, True),
        (12, 15, 5, False),
        (95, 100, 95, True),
        (60, 100, 10, False),
        (0, 9, 9, False),
    ],
)
def test_a_teacher_is_held_against_the_most_frequent_class(
    right: int, images: int, largest: int, warned: bool
) -> None:
    found = check_teacher({"images": images, "right": right, "largest": largest})
    assert bool(found) == warned
    assert not warned or f"classifies {right} of {images} validation images" in said(found)


def test_the_facts_of_a_validation() -> None:
    facts = validation_facts(np.array([0, 1, 1, 1]), np.array([0, 1, 0, 0]))
    assert facts == {"images": 4, "right": 2, "largest": 3}
    assert check_teacher(validation_facts(np.zeros(0, int), np.zeros(0, int))) == []


def test_classes_that_are_not_drawn_or_not_seen_are_named() -> None:
    labels = np.repeat([0, 1], 6)
    soft = np.tile(np.array([0.8, 0.1, 0.1], np.float32), (12, 1))
    found = said(check_labels(labels, soft, NAMES))
    assert "No image was drawn of class two lines: 12 images are too few for 3 classes" in found
    assert (
        "According to the teacher no synthetic image shows class bee, though 6 were drawn" in found
    )
    assert "teacher" not in said(check_labels(labels, None, NAMES))
    few = said(check_labels(np.array([0, 1, 2]), soft[:3], NAMES))  # one image means nothing
    assert few == ""


def test_a_teacher_that_was_not_trained_misses_no_class() -> None:
    """To the stand-in for a private teacher without a share of the budget all classes are alike."""
    alike = np.full((24, 3), 1 / 3, np.float32)
    assert said(check_labels(np.tile([0, 1, 2], 8), alike, NAMES)) == ""


def test_probabilities_that_are_not_finite_stop_the_run() -> None:
    with pytest.raises(UserError, match="probabilities are not finite"):
        check_labels(np.zeros(2, int), np.full((2, 3), np.nan, np.float32), NAMES)


@given(st.lists(st.text(max_size=3), max_size=8))
def test_captions_stop_a_run_only_if_none_says_anything(captions: list[str]) -> None:
    if captions and not any(caption.strip() for caption in captions):
        with pytest.raises(UserError):
            check_captions(captions)
    else:
        check_captions(captions)


def test_warnings_go_with_a_table() -> None:
    found = [RunWarning("images", "poor")]
    table = with_warnings(pd.DataFrame({"a": [1, 2]}), found)
    assert warnings_about(table.drop(columns="a").assign(b=1)) == found
    assert warnings_about(pd.DataFrame()) == []


def test_a_card_repeats_nothing_private() -> None:
    """Captions are withheld by default, and how many validation images there are is nobody's business."""
    (equal,) = check_captions(["a bag"] * 3)
    (guessing,) = check_teacher({"images": 15, "right": 5, "largest": 5})
    assert "bag" in equal.text
    assert "bag" not in equal.for_release
    assert "15" not in guessing.for_release
    (few,) = check_distinct(["a"] * 7 + ["b"])
    assert few.for_release == few.text
