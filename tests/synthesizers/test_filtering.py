"""A filtered set keeps its classes, its prefixes and its seed, and says which class it cannot fill."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from tckr.classifiers.predict import soft_labels
from tckr.errors import UserError
from tckr.synthesizers.filtering import (
    DRAW,
    FILTER,
    FilterOptions,
    check_rejected,
    draws_per_image,
    fill,
    rejected,
)
from tckr.synthesizers.fitted import Fitted
from tckr.synthesizers.private_set import PrivateSet
from tckr.synthesizers.unadapted import UnadaptedRecyclingOptions

NAMES = ("bag", "boot", "coat")


def plan_of(labels: Sequence[int]) -> pd.DataFrame:
    prompts = [f"{NAMES[label]} {place}" for place, label in enumerate(labels)]
    return pd.DataFrame({"prompt": prompts, "label": labels})


class Chance:
    """A judge that accepts each image with a chance of its class, by the number of the image."""

    def __init__(self, chances: Sequence[float], labels: Sequence[int], seed: int = 0) -> None:
        self.chances, self.labels, self.seed, self.drawn = chances, labels, seed, []

    def of(self, number: int, label: int) -> NDArray[np.float32]:
        draw = np.random.default_rng([self.seed, number])
        sure = draw.uniform(0.4, 1)
        seen = label if draw.random() < self.chances[label] else (label + 1) % len(NAMES)
        row = np.full(len(NAMES), (1 - sure) / 2, np.float32)
        row[seen] = sure
        return row

    def __call__(self, rows: NDArray[np.int64], start: int) -> NDArray[np.float32]:
        labels = [self.labels[row] for row in rows[start:]]
        self.drawn += [(start + i, label) for i, label in enumerate(labels)]
        return np.stack([self.of(start + i, label) for i, label in enumerate(labels)])


@settings(deadline=None)  # the machine may be busy
@given(
    labels=st.lists(st.integers(0, 2), min_size=1, max_size=60),
    chances=st.tuples(*[st.floats(0.3, 1)] * 3),
    threshold=st.floats(0, 0.6),
    seed=st.integers(0, 99),
)
def test_every_place_gets_an_accepted_image_of_its_class(labels, chances, threshold, seed) -> None:
    judge = Chance(chances, labels, seed)
    plan = plan_of(labels)
    filled = fill(plan, FilterOptions(threshold=threshold, max_draws=1000), NAMES, judge)
    assert filled.plan["label"].tolist() == labels  # so every prefix is balanced as before
    assert len(set(filled.numbers)) == len(labels)
    for number, label in zip(filled.numbers.tolist(), labels, strict=True):
        row = judge.of(number, label)
        assert row.argmax() == label
        assert row[label] > threshold
    # An image that was accepted at once stays in its own place.
    for place, label in enumerate(labels):
        row = judge.of(place, label)
        at_once = row.argmax() == label and row[label] > threshold
        assert (filled.numbers[place] == place) == at_once
    # No number is drawn twice, and prompts are those of the class.
    numbers = [number for number, _ in judge.drawn]
    assert numbers == list(range(len(numbers)))
    known = {label: set(part["prompt"]) for label, part in plan.groupby("label")}
    assert all(
        prompt in known[label] for prompt, label in zip(filled.plan["prompt"], labels, strict=True)
    )
    # The share that was rejected is that of the images up to the last one that was needed.
    for label, name in enumerate(NAMES):
        if label in labels:
            of_class = [number for number, each in judge.drawn if each == label]
            last = max(n for n, each in zip(filled.numbers, labels, strict=True) if each == label)
            needed = of_class.index(last) + 1
            share = rejected(filled.plan, NAMES)[name]
            assert share == pytest.approx(1 - labels.count(label) / needed)
    assert draws_per_image(filled.plan) >= 1


def test_the_same_seed_fills_alike_and_nothing_is_drawn_in_vain() -> None:
    labels = [0, 1, 2] * 40
    options = FilterOptions(threshold=0.5)
    first, second = (
        fill(plan_of(labels), options, NAMES, Chance((0.9, 0.5, 1), labels, 4)) for _ in range(2)
    )
    np.testing.assert_array_equal(first.numbers, second.numbers)
    pd.testing.assert_frame_equal(first.plan, second.plan)
    accepting = Chance((1, 1, 1), labels)
    whole = fill(plan_of(labels), FilterOptions(threshold=0), NAMES, accepting)
    assert whole.numbers.tolist() == list(range(120))
    assert len(accepting.drawn) == 120
    assert set(rejected(whole.plan, NAMES).values()) == {0.0}


def test_a_class_that_cannot_be_filled_ends_in_one_line_and_in_bounds() -> None:
    labels = [0, 1, 2] * 20
    judge = Chance((1, 1, 0), labels)
    with pytest.raises(UserError) as caught:
        fill(plan_of(labels), FilterOptions(threshold=0, max_draws=6), NAMES, judge)
    said = str(caught.value)
    assert "class coat in 0 of 120 images" in said
    assert "(100.0 % rejected)" in said
    assert "knowledge_recycling.filter.threshold" in said
    assert "\n" not in said
    assert len(judge.drawn) == 20 + 20 + 6 * 20  # the other classes were full at once


def test_a_shadows_class_that_cannot_be_filled_gets_what_comes_nearest() -> None:
    labels = [0, 1, 2] * 4
    judge = Chance((1, 1, 0), labels)
    options = FilterOptions(threshold=0, max_draws=3)
    filled = fill(plan_of(labels), options, NAMES, judge, strict=False)
    of_coat = [number for number, label in judge.drawn if label == 2]
    nearness = {number: judge.of(number, 2)[2] for number in of_coat}
    chosen = [
        number for number, p in zip(filled.numbers, filled.plan["label"], strict=True) if p == 2
    ]
    assert len(set(chosen)) == 4
    assert min(nearness[n] for n in chosen) >= max(
        near for number, near in nearness.items() if number not in chosen
    )


class Brightness(nn.Module):
    """A teacher that takes dark images for bags and bright ones for coats: it accepts about half of each."""

    def __init__(self) -> None:
        super().__init__()
        self.middle = nn.Parameter(torch.tensor(0.5))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        bright = 40 * (images.mean((1, 2, 3)) - self.middle)
        return torch.stack([-bright, torch.full_like(bright, -50), bright], 1)


@pytest.fixture(scope="module")
def fitted(arm: Any, private: PrivateSet) -> Fitted:
    drawn = arm.fit(private.at(range(12)), 3)
    teacher = Brightness()
    images = drawn.sample(40, 3).images.float() / 255
    teacher.middle.data = images.mean((1, 2, 3)).median()
    recycling = arm.knowledge_recycling.model_copy(
        update={"filter": FilterOptions(threshold=0.5, max_draws=100)}
    )
    filtering = arm.model_copy(update={"knowledge_recycling": recycling})
    return Fitted(filtering, drawn.facts, drawn.artefacts, teacher=teacher)


def test_a_filtered_sample_has_what_its_teacher_recognises(fitted: Fitted) -> None:
    drawn = fitted.sample(20, 3, nested=True)
    found = soft_labels(fitted.teacher, drawn.images)
    assert torch.equal(found.argmax(1), drawn.labels)
    assert (found.gather(1, drawn.labels[:, None]) > 0.5).all()
    for size in range(1, 21):
        prefix = drawn.labels[:size].tolist()
        assert abs(prefix.count(0) - prefix.count(2)) <= 1
    again = fitted.sample(20, 3, nested=True)
    assert torch.equal(drawn.images, again.images)
    # Those that the teacher would have kept anyway are where they were.
    closed = fitted.sample(20, 3, nested=True, closed=(FILTER,))
    kept = soft_labels(fitted.teacher, closed.images).argmax(1) == closed.labels
    assert 0 < int(kept.sum()) < 20
    assert torch.equal(drawn.images[kept], closed.images[kept])
    assert (drawn.images[~kept] != closed.images[~kept]).flatten(1).any(1).all()


def test_a_filter_is_a_channel_and_needs_a_teacher(fitted: Fitted) -> None:
    arm = fitted.synthesizer
    assert arm.open_channels == (*type(arm).channels, FILTER)
    nobody = Fitted(arm, fitted.facts, fitted.artefacts)
    with pytest.raises(ValueError, match="needs the teacher"):
        nobody.sample(4, 3)
    assert nobody.sample(4, 3, closed=(FILTER,)).images.shape == (4, 1, 16, 16)
    assert fitted.drawing(["a"], 3) != nobody_filtered(fitted).drawing(["a"], 3)


def nobody_filtered(fitted: Fitted) -> Fitted:
    recycling = fitted.synthesizer.knowledge_recycling.model_copy(
        update={"filter": FilterOptions()}
    )
    arm = fitted.synthesizer.model_copy(update={"knowledge_recycling": recycling})
    return Fitted(arm, fitted.facts, fitted.artefacts)


def test_slices_are_balanced_each(fitted: Fitted) -> None:
    recycling = fitted.synthesizer.knowledge_recycling.model_copy(update={"slices": 5})
    arm = fitted.synthesizer.model_copy(update={"knowledge_recycling": recycling})
    assert recycling.n_images(8) == 40
    labels = Fitted(arm, fitted.facts, fitted.artefacts).plan_prompts(40, 3)["label"].to_numpy()
    for part in labels.reshape(5, 8).tolist():
        assert abs(part.count(0) - part.count(2)) <= 1


def test_what_was_rejected_is_said() -> None:
    table = pd.DataFrame({"label": [0, 0, 1], DRAW: [0, 7, 0]})
    shares = rejected(table, NAMES)
    assert shares == {"bag": 0.75, "boot": 0.0}
    (warning,) = check_rejected(shares)
    assert "bag (75.0 %)" in warning.text
    assert "75" not in warning.for_release  # the card says nothing that the private teacher counted
    assert check_rejected({"bag": 0.4}) == []


def test_the_control_has_no_filter() -> None:
    with pytest.raises(ValueError, match="nothing private may reach this control"):
        UnadaptedRecyclingOptions(generator="anything", filter={"threshold": 0.5})
