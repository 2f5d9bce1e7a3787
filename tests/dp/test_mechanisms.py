"""Mechanisms on neighbouring sets: no statistic changes by more than declared, and planted bugs are caught."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tckr.dp import (
    Entry,
    Ledger,
    Noise,
    add_noise,
    check_counts,
    check_sensitivity,
    clipped_sum,
    delta_default,
    epsilon_of_mu,
    noisy_counts,
    noisy_histogram,
    noisy_sum,
    recording,
)
from tckr.errors import UserError
from tckr.metrics import epsilon_lower_bound

N = 3000


def spent(noise: Noise, mechanism: str = "gaussian", **fields) -> Entry:
    ledger = Ledger(50.0, delta_default(N), N, "4f2a")
    given = {"noise_multiplier": 5.0, "why": "by test", "code": "test"}
    ledger.add(name="asked", mechanism=mechanism, **{**given, **fields})
    return ledger.spend("asked", noise)


def neighbours(ask, images: np.ndarray, left_out: int) -> dict[str, float]:
    """Ask the same of a private set and of the set without one image; returns the largest changes."""
    with recording() as first:
        ask(images)
    with recording(replay=first) as second:
        ask(np.delete(images, left_out, axis=0))
    return check_sensitivity(first, second)


VECTORS = arrays(np.float64, (6, 4), elements=st.floats(-1e6, 1e6, allow_subnormal=False))


@settings(deadline=None, max_examples=50)
@given(VECTORS, st.integers(0, 5), st.sampled_from([0.1, 1.0, 30.0]))
def test_one_image_changes_a_sum_by_its_clipped_norm(vectors, left_out: int, norm: float):
    noise = Noise(seed=0)
    entry = spent(noise, sensitivity=norm)
    changed = neighbours(
        lambda kept: noisy_sum(torch.from_numpy(kept), entry, noise), vectors, left_out
    )
    length = float(np.linalg.norm(vectors[left_out]))
    assert changed["asked"] == pytest.approx(min(length, norm), rel=1e-5, abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(arrays(np.int64, (6, 3), elements=st.integers(-1, 4)), st.integers(0, 5))
def test_one_image_changes_a_histogram_by_the_root_of_its_cells(cells, left_out: int):
    noise = Noise(seed=0)
    entry = spent(noise, "discrete_gaussian", sensitivity=math.sqrt(3))
    changed = neighbours(lambda kept: noisy_histogram(kept, 5, entry, noise), cells, left_out)
    named = len(set(cells[left_out]) - {-1})
    assert changed["asked"] == pytest.approx(math.sqrt(named))


@settings(deadline=None, max_examples=20)
@given(arrays(np.int64, 8, elements=st.integers(0, 2)), st.integers(0, 7))
def test_one_image_changes_class_counts_by_one(labels, left_out: int):
    noise = Noise(seed=0)
    entry = spent(noise, "discrete_gaussian")

    def count(kept):
        return noisy_counts(np.bincount(kept, minlength=3), entry, noise)

    assert neighbours(count, labels, left_out) == {"asked": 1.0}


@settings(deadline=None, max_examples=20)
@given(VECTORS, st.integers(0, 5))
def test_steps_that_build_on_answers_are_asked_the_same(vectors, left_out: int):
    noise = Noise(seed=0)
    entry = spent(noise, steps=3)

    def descend(kept):
        weights = torch.zeros(4, dtype=torch.float64)
        for _ in range(3):
            weights = weights - 0.1 * noisy_sum(torch.from_numpy(kept) - weights, entry, noise)

    assert neighbours(descend, vectors, left_out)["asked"] <= 1 + 1e-6


def test_planted_twice_the_declared_sensitivity_is_caught():
    noise = Noise(seed=0)
    entry = spent(noise, sensitivity=1.0)
    images = np.full((6, 4), 3.0)
    with pytest.raises(ValueError, match="declares sensitivity 1, but one image changed it by 2"):
        neighbours(
            lambda kept: add_noise(clipped_sum(torch.from_numpy(kept), 2.0), entry, noise),
            images,
            2,
        )


def test_planted_mean_over_what_came_is_caught():
    # Divided by the number of images, every image shares in the change.
    noise = Noise(seed=0)
    entry = spent(noise, sensitivity=0.01)
    images = np.array([[1.0], [1.0], [-1.0]])
    with pytest.raises(ValueError, match="declares"):
        neighbours(lambda kept: add_noise(torch.from_numpy(kept).mean(0), entry, noise), images, 2)


def test_planted_steps_beyond_the_declared_and_unequal_questions_are_caught():
    noise = Noise(seed=0)
    entry = spent(noise, steps=1)
    images = np.ones((3, 1))

    def twice(kept):
        for _ in range(2):
            noisy_sum(torch.from_numpy(kept), entry, noise)

    with pytest.raises(ValueError, match="declares 1 steps"):
        neighbours(twice, images, 0)

    def as_often_as_images(kept):
        for _ in kept:
            noisy_sum(torch.from_numpy(kept), entry, noise)

    with pytest.raises(ValueError, match="3 questions, the other 2"):
        neighbours(as_often_as_images, images, 0)


def test_planted_count_that_one_image_changes_by_two_is_caught():
    noise = Noise(seed=0)
    entry = spent(noise, "discrete_gaussian", sensitivity=2.0)  # of four counts by 1 each
    with pytest.raises(ValueError, match="by 1 at most"):
        neighbours(
            lambda kept: noisy_counts(2 * kept.sum(0), entry, noise), np.eye(3, dtype=int), 1
        )


class Quiet(Noise):
    """A planted bug: half of the noise that is charged."""

    def normal(self, shape, scale, device="cpu", dtype=None):
        return super().normal(shape, scale / 2, device, dtype)


@pytest.mark.parametrize(("noise", "honest"), [(Noise(seed=1), True), (Quiet(seed=1), False)])
def test_planted_half_of_the_noise_is_caught_by_the_lower_bound(noise: Noise, honest: bool):
    entry = spent(noise, noise_multiplier=1.0)
    is_member = np.arange(60_000) < 30_000  # of as many runs, each with its image or without
    scores = add_noise(torch.from_numpy(is_member.astype(float)), entry, noise)
    proven, measured = epsilon_of_mu(1.0, 1e-3), epsilon_lower_bound(scores, is_member, 1e-3).value
    assert (measured <= proven) == honest
    assert measured > proven / 2


def test_noise_has_the_scale_of_multiplier_times_sensitivity():
    noise = Noise(seed=2)
    entry = spent(noise, noise_multiplier=3.0, sensitivity=2.0)
    answer = noisy_sum(
        torch.zeros(0, 20_000), entry, noise
    )  # an empty sample is answered like any other
    assert answer.std().item() == pytest.approx(6, rel=0.03)
    whole = spent(noise, "discrete_gaussian", sensitivity=2.0)
    assert noisy_counts(np.zeros(2000, int), whole, noise).std() == pytest.approx(10, rel=0.07)


def test_a_vector_that_is_not_finite_counts_as_nothing():
    vectors = torch.tensor([[1.0, 0.0], [float("nan"), 0.0], [float("inf"), 2.0]])
    assert clipped_sum(vectors, 2.0).tolist() == [1.0, 0.0]


def test_sums_in_blocks_and_of_any_shape(monkeypatch):
    vectors = torch.randn(10, 2, 3, generator=torch.Generator().manual_seed(0))
    whole = clipped_sum(vectors, 0.5)
    monkeypatch.setattr("tckr.dp.mechanisms.BLOCK", 3)
    assert torch.allclose(clipped_sum(vectors, 0.5), whole)
    assert whole.shape == (2, 3)
    assert whole.dtype == torch.float32


def test_nothing_is_asked_before_it_is_charged():
    planned = spent(Noise()).model_copy(update={"spent": None})
    with pytest.raises(UserError, match="before it is charged"):
        noisy_sum(torch.ones(2, 2), planned, Noise())
    with pytest.raises(ValueError, match="noise comes from a seed"):
        noisy_sum(torch.ones(2, 2), spent(Noise()), Noise(seed=0))


def test_no_more_answers_than_were_charged():
    noise = Noise()
    entry = spent(noise, steps=2)
    for _ in range(2):
        noisy_sum(torch.ones(2, 2), entry, noise)
    with pytest.raises(UserError, match="charged for 2 noisy answers"):
        noisy_sum(torch.ones(2, 2), entry, noise)


def test_mechanisms_refuse_entries_and_statistics_of_another_kind():
    gaussian, discrete = spent(Noise()), spent(Noise(), "discrete_gaussian")
    with pytest.raises(ValueError, match="not discrete_gaussian"):
        noisy_counts([1, 2], gaussian, Noise())
    with pytest.raises(ValueError, match="not gaussian"):
        noisy_sum(torch.ones(2, 2), discrete, Noise())
    with pytest.raises(ValueError, match="integers"):
        noisy_counts([1.5, 2], discrete, Noise())
    with pytest.raises(ValueError, match="1 cells an image, but images name 2"):
        noisy_histogram([[0, 1]], 3, discrete, Noise())
    with pytest.raises(ValueError, match=r"cells lie in 0 \.\. 2"):
        noisy_histogram([[3]], 3, discrete, Noise())


def test_a_class_within_the_noise_of_its_count_is_refused():
    entry = spent(Noise(), "discrete_gaussian", noise_multiplier=20.0)
    check_counts(np.array([300, 41]), entry, ["cat", "dog"])
    with pytest.raises(UserError, match="Class 'dog' has too few members"):
        check_counts(np.array([300, 39]), entry, ["cat", "dog"])
