"""The semantic query: a bounded histogram of what private images resemble, and a choice that gives each category once."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from charged import charged
from tckr.classifiers.options import AugmentationOptions, ClassifierOptions
from tckr.classifiers.predict import logits
from tckr.classifiers.query import (
    choice_sheet,
    choice_table,
    choose,
    chosen_images,
    query_histogram,
    query_plan,
    train_query,
)
from tckr.classifiers.resnet import ResNet
from tckr.dp import Noise, Plan, check_sensitivity, recording
from tckr.errors import UserError
from tckr.images.pool import PublicPool

CATEGORIES = ("bottom", "left", "nothing", "right", "top")
PIXELS = arrays(np.uint8, (6, 1, 8, 8))


def bars(count: int = 40) -> PublicPool:
    """Bright bars, each category at its own edge, on noise; "nothing" has none."""
    images = torch.randint(
        0, 60, (count, 1, 8, 8), generator=torch.Generator().manual_seed(0)
    ).byte()
    labels = torch.arange(count) % 5
    for image, label in zip(images, labels, strict=True):
        edge = {0: image[:, -2:], 1: image[:, :, :2], 3: image[:, :, -2:], 4: image[:, :2]}
        if int(label) in edge:
            edge[int(label)].fill_(250)
    return PublicPool(images, labels, CATEGORIES)


@pytest.fixture(scope="module")
def query() -> nn.Module:
    options = ClassifierOptions(
        widths=(8, 16),
        epochs=30,
        batch_size=8,
        augmentation=AugmentationOptions(flip=False, shift=0),
    )
    return train_query(bars(), options, seed=0)


def ask(query: nn.Module, images: np.ndarray, labels: np.ndarray, k: int, plan: Plan | None = None):
    entry, noise = charged(plan or query_plan(k, 1), 2.0), Noise(seed=0)
    pixels = torch.from_numpy(np.ascontiguousarray(images))
    return query_histogram(query, pixels, labels, 3, len(CATEGORIES), entry, noise)


def test_the_query_knows_the_categories_of_new_images(query: nn.Module) -> None:
    new = bars(60)
    assert (logits(query, new.images[40:]).argmax(1) == new.labels[40:]).float().mean() > 0.9


@pytest.mark.parametrize("k", [1, 2, 5])
def test_without_noise_it_is_a_count_of_the_k_likeliest(query: nn.Module, k: int) -> None:
    pool, classes = bars(20), np.arange(20) % 3
    entry = charged(query_plan(k, 1), 0.0)
    counts = query_histogram(query, pool.images, classes, 3, 5, entry, Noise(seed=0))
    expected = np.zeros((3, 5), int)
    for row, label in zip(logits(query, pool.images).numpy(), classes, strict=True):
        for category in np.argsort(-row)[:k]:
            expected[label, category] += 1
    np.testing.assert_array_equal(counts, expected)
    assert counts.sum() == 20 * k


def test_noise_has_the_width_that_was_charged(query: nn.Module) -> None:
    entry = charged(query_plan(4, 1), 30.0)
    image = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    wide = ResNet(1, 2000, (4,), 2)
    counts = query_histogram(wide, image, [0], 2, 2000, entry, Noise(seed=1))
    assert counts.std() == pytest.approx(30 * math.sqrt(4), rel=0.05)


@settings(deadline=None, max_examples=30)
@given(
    PIXELS,
    arrays(np.int64, 6, elements=st.integers(0, 2)),
    st.integers(0, 5),
    st.sampled_from([1, 2, 5]),
)
def test_one_image_changes_the_histogram_by_the_root_of_k(images, labels, left_out: int, k: int):
    network = ResNet(1, len(CATEGORIES), (4,), 2).eval()
    with recording() as first:
        ask(network, images, labels, k)
    with recording(replay=first) as second:
        ask(network, np.delete(images, left_out, 0), np.delete(labels, left_out), k)
    assert check_sensitivity(first, second) == {"query": pytest.approx(math.sqrt(k))}


def test_planted_a_larger_vote_than_charged_is_caught(query: nn.Module) -> None:
    """Of two votes charged as one, the second is not cast; the histogram itself refuses more."""
    pool = bars(10)
    counts = ask(query, pool.images.numpy(), np.zeros(10, int), 2, query_plan(1, 1))
    assert counts.sum() == pytest.approx(10, abs=40)
    with pytest.raises(ValueError, match="cannot name 6 of 5"):
        ask(query, pool.images.numpy(), np.zeros(10, int), 6)
    with pytest.raises(ValueError, match="classes must lie"):
        ask(query, pool.images.numpy(), np.full(10, 3), 1)


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 5), st.randoms(use_true_random=False))
def test_no_category_is_chosen_twice_and_the_first_class_gets_its_best(
    n_classes: int, k: int, spare: int, random
) -> None:
    n_categories = n_classes * k + spare
    counts = np.array([[random.randint(-9, 9) for _ in range(n_categories)] for _ in range(n_classes)])  # fmt: skip
    chosen = choose(counts, k)
    assert chosen.shape == (n_classes, k)
    assert len(set(chosen.ravel())) == n_classes * k
    taken: set[int] = set()
    for row, own in zip(counts, chosen, strict=True):
        free = sorted((row[c] for c in range(n_categories) if c not in taken), reverse=True)
        assert row[own].tolist() == free[:k]
        taken |= set(own.tolist())


@pytest.mark.parametrize(
    ("k", "remedy"), [(2, "at most 1 a class"), (3, "a pool of at least 9 categories")]
)
def test_too_small_a_pool_is_refused(k: int, remedy: str) -> None:
    with pytest.raises(UserError, match=f"5 categories, too few for {k} for each of 3 classes") as e:  # fmt: skip
        choose(np.zeros((3, 5), int), k)
    assert remedy in str(e.value)


def test_chosen_images_carry_the_private_label() -> None:
    pool, counts = bars(40), np.array([[9, 8, 0, 0, 0], [9, 0, 0, 7, 6]])
    choice = choice_table(choose(counts, 2), counts, ["boot", "bag"], CATEGORIES)
    assert choice["category"].tolist() == ["bottom", "left", "right", "top"]
    assert choice["noisy_count"].tolist() == [9, 8, 7, 6]
    images, labels = chosen_images(pool, choice)
    assert len(images) == 32
    for image, label in zip(images, labels, strict=True):
        found = next(int(c) for i, c in zip(pool.images, pool.labels, strict=True) if torch.equal(i, image))  # fmt: skip
        assert int(label) == (0 if found in (0, 1) else 1)
    with pytest.raises(UserError, match="no category 'gone'"):
        chosen_images(pool, choice.replace("left", "gone"))


def test_the_sheet_shows_public_images_of_what_was_chosen() -> None:
    pool, counts = bars(40), np.array([[9, 8, 0, 0, 0], [9, 0, 0, 7, 6]])
    choice = choice_table(choose(counts, 1), counts, ["boot", "bag"], CATEGORIES)
    drawn = np.asarray(choice_sheet(pool, choice))
    assert drawn.ndim == 3
    assert (drawn == 250).sum() > 100  # the bars of the chosen categories
