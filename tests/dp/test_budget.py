"""Shares of mu^2, and the check that something of the signal is left."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tckr.dp import Mechanism, check_signal, gaussian_sigma, mu, split
from tckr.dp.budget import Plan
from tckr.errors import UserError


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=5), st.floats(0.1, 20))
def test_squares_of_the_shares_add_up_to_the_total(shares: list[float], epsilon: float):
    mus = split(epsilon, 1e-5, {str(place): share for place, share in enumerate(shares)})
    assert math.hypot(*mus.values()) == pytest.approx(mu(epsilon, 1e-5))
    assert mus["0"] == pytest.approx(mu(epsilon, 1e-5) * math.sqrt(shares[0] / sum(shares)))


@pytest.mark.parametrize("shares", [{}, {"a": 0.0}, {"a": -1.0, "b": 2.0}, {"a": math.nan}])
def test_impossible_shares(shares: dict):
    with pytest.raises(UserError, match="share"):
        split(1.0, 1e-5, shares)


def test_a_plan_has_no_noise_of_its_own():
    with pytest.raises(ValueError, match="noise_multiplier"):
        Plan(name="a", mechanism="gaussian", share=1, why="w", code="c", noise_multiplier=5)


def test_more_noise_than_signal_says_what_would_do():
    # A linear head on 3,969 features of 10 classes: fine on 3,000 images at epsilon 1, hopeless on 200.
    dimension, delta = 39_690, 1e-5
    teacher = Mechanism(
        mechanism="gaussian", noise_multiplier=gaussian_sigma(1, delta, 80), steps=80
    )
    check_signal(teacher, 3000, dimension, delta)
    with pytest.raises(UserError, match="More noise than signal: 200 images") as refused:
        check_signal(teacher, 200, dimension, delta)
    images, epsilon = (
        float(word.strip(",.").replace(",", ""))
        for word in (
            str(refused.value).split("at least ")[1].split()[0],
            str(refused.value).split("alone has ")[1],
        )
    )
    check_signal(teacher, math.ceil(images), dimension, delta)
    louder = teacher.model_copy(
        update={"noise_multiplier": gaussian_sigma(1.05 * epsilon, delta, 80)}
    )
    check_signal(louder, 200, dimension, delta)


def test_many_steps_or_few_need_the_same_images():
    for steps in (1, 100):
        noise = gaussian_sigma(1, 1e-5, steps)
        mechanism = Mechanism(mechanism="gaussian", noise_multiplier=noise, steps=steps)
        check_signal(mechanism, 600, 10_000, 1e-5)
        with pytest.raises(UserError):
            check_signal(mechanism, 300, 10_000, 1e-5)
