"""Accounting against closed forms, RDP, exact sums over the integers, and what theory says of steps and entries."""

import math

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.optimize import brentq

from tckr.dp.accounting import (
    Mechanism,
    delta_default,
    delta_of_mu,
    dp_sgd_noise_multiplier,
    epsilon_of_mu,
    gaussian_sigma,
    mu,
    total_epsilon,
)
from tckr.errors import UserError

DELTA = delta_default(55_000)


def sampled(noise: float, rate: float, steps: int) -> Mechanism:
    return Mechanism(
        mechanism="subsampled_gaussian", noise_multiplier=noise, sampling_rate=rate, steps=steps
    )


@pytest.mark.parametrize(
    ("epsilon", "delta", "expected"),
    # 40 digits of Balle & Wang's equation, solved with mpmath.
    [
        (1, 1.67e-6, 0.2428104627550749),
        (10, 1.67e-6, 1.879111179256923),
    ],
)
def test_mu_solves_the_analytic_gaussian_equation(epsilon: float, delta: float, expected: float):
    assert mu(epsilon, delta) == pytest.approx(expected, rel=1e-9)
    assert mu(epsilon, delta) < expected  # rounded to the safe side


@given(st.floats(0.01, 200), st.floats(1e-12, 0.1))
def test_mu_and_epsilon_are_inverse_on_the_safe_side(epsilon: float, delta: float):
    assert epsilon_of_mu(mu(epsilon, delta), delta) == pytest.approx(epsilon, rel=1e-6)
    assert epsilon_of_mu(mu(epsilon, delta), delta) <= epsilon * (1 + 1e-9)


@given(st.floats(1e-4, 30), st.floats(0, 100))
def test_delta_falls_with_epsilon_and_rises_with_mu(mu: float, epsilon: float):
    assert (
        0 <= delta_of_mu(mu, epsilon * 1.1 + 0.01) <= delta_of_mu(mu, epsilon) + 1e-12 <= 1 + 1e-12
    )
    assert delta_of_mu(mu, epsilon) <= delta_of_mu(1.1 * mu, epsilon) + 1e-12


@pytest.mark.parametrize(
    ("epsilon", "multipliers"),
    [(1, (18.44, 26.14, 36.92, 52.14)), (10, (2.39, 3.37, 4.78, 6.75))],
)
def test_full_batch_multipliers(epsilon: float, multipliers: tuple[float, ...]):
    # The published values came from a PLD and are rounded up by some 0.3 %; these are exact.
    exact = [gaussian_sigma(epsilon, DELTA, steps) for steps in (20, 40, 80, 160)]
    assert exact == pytest.approx(multipliers, rel=5e-3)
    assert exact[2] == pytest.approx(2 * exact[0])


@pytest.mark.parametrize(
    ("epsilon", "rate", "steps", "expected"),
    [
        (1, 0.149, 100, 6.36),
        (1, 0.298, 240, 19.14),
        (10, 0.149, 100, 1.10),
        (10, 0.0745, 300, 0.99),
    ],
)
def test_dp_sgd_multipliers(epsilon: float, rate: float, steps: int, expected: float):
    multiplier = dp_sgd_noise_multiplier(epsilon, DELTA, rate, steps)
    assert multiplier == pytest.approx(expected, abs=0.03)
    reached = total_epsilon([sampled(multiplier, rate, steps)], DELTA)
    assert epsilon * 0.999 <= reached <= epsilon


def test_sampling_of_every_image_is_the_gaussian_mechanism():
    assert dp_sgd_noise_multiplier(1, DELTA, 1.0, 80) == gaussian_sigma(1, DELTA, 80)


@pytest.mark.parametrize(
    ("noise", "rate", "steps"), [(1.1, 0.149, 100), (6.36, 0.149, 100), (1.0, 0.01, 500)]
)
def test_pld_lies_just_below_rdp(noise: float, rate: float, steps: int):
    event = PoissonSampledDpEvent(rate, GaussianDpEvent(noise))
    rdp = RdpAccountant().compose(SelfComposedDpEvent(event, steps)).get_epsilon(DELTA)
    assert 0.75 * rdp < total_epsilon([sampled(noise, rate, steps)], DELTA) < rdp


@pytest.mark.parametrize(
    ("noise", "rate", "epsilon"), [(1.0, 0.1, 1.0), (2.0, 0.5, 0.5), (0.7, 0.01, 2.0)]
)
def test_one_sampled_step_has_a_closed_form(noise: float, rate: float, epsilon: float):
    # H_e^epsilon((1 - q) Q + q P || Q) = q H_e^epsilon'(P || Q) with e^epsilon' = 1 + (e^epsilon - 1) / q.
    inner = math.log1p(math.expm1(epsilon) / rate)
    delta = rate * delta_of_mu(1 / noise, inner)
    assert total_epsilon([sampled(noise, rate, 1)], delta) == pytest.approx(epsilon, rel=2e-3)


@pytest.mark.parametrize(("sigma", "cells"), [(0.7, 2), (3.0, 1), (2.0, 10), (63.2, 10)])
def test_discrete_gaussian_against_the_exact_sum(sigma: float, cells: int):
    reach = math.ceil(14 * sigma)
    one = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    pmf = np.ones(1)
    for _ in range(cells):
        pmf = np.convolve(pmf, one / one.sum())
    loss = (cells - 2 * (np.arange(len(pmf)) - cells * reach)) / (2 * sigma**2)

    def delta(epsilon: float) -> float:
        return float((pmf * np.maximum(-np.expm1(np.minimum(epsilon - loss, 0)), 0)).sum())

    exact = brentq(lambda epsilon: delta(epsilon) - DELTA, 0, 60)
    mechanism = Mechanism(
        mechanism="discrete_gaussian",
        noise_multiplier=sigma / math.sqrt(cells),
        sensitivity=math.sqrt(cells),
    )
    assert exact <= total_epsilon([mechanism], DELTA) * (1 + 1e-9) <= exact * 1.001


def test_doubled_steps_double_the_square_of_mu():
    once = Mechanism(mechanism="gaussian", noise_multiplier=40, steps=80)
    twice = once.model_copy(update={"steps": 160})
    expected = epsilon_of_mu(math.sqrt(160) / 40, DELTA)
    assert total_epsilon([once, once], DELTA) == pytest.approx(expected)
    assert total_epsilon([twice], DELTA) == pytest.approx(expected)


def test_doubled_steps_of_dp_sgd_are_two_of_it():
    once, twice = sampled(3, 0.1, 100), sampled(3, 0.1, 200)
    together = total_epsilon([once, once], DELTA)
    assert together == pytest.approx(total_epsilon([twice], DELTA), rel=1e-3)
    # sqrt(2) in the Gaussian limit, and a little more of epsilon than of mu
    assert 1.35 < together / total_epsilon([once], DELTA) < 1.6


def test_every_mechanism_left_out_lowers_epsilon():
    parts = [
        Mechanism(mechanism="gaussian", noise_multiplier=40, steps=80),
        Mechanism(mechanism="discrete_gaussian", noise_multiplier=5, sensitivity=math.sqrt(10)),
        sampled(3, 0.1, 100),
    ]
    whole = total_epsilon(parts, DELTA)
    for left_out in range(3):
        rest = [part for place, part in enumerate(parts) if place != left_out]
        assert total_epsilon(rest, DELTA) < 0.99 * whole


def test_no_noise_has_no_bound_and_nothing_asked_costs_nothing():
    assert total_epsilon([Mechanism(mechanism="gaussian", noise_multiplier=0)], DELTA) == math.inf
    assert total_epsilon([], DELTA) == 0


@pytest.mark.parametrize(
    ("epsilon", "delta"),
    [(-1, 1e-5), (math.inf, 1e-5), (math.nan, 1e-5), (1, 0), (1, 1), (0, 1e-300)],
)
def test_impossible_budgets(epsilon: float, delta: float):
    with pytest.raises(UserError, match=r"epsilon|delta"):
        gaussian_sigma(epsilon, delta)


def test_a_delta_that_allows_to_publish_whoever_is_sampled():
    with pytest.raises(UserError, match="read at all"):
        dp_sgd_noise_multiplier(1, 1e-5, 1e-7, 10)


@pytest.mark.parametrize(
    "fields",
    [
        {"mechanism": "laplace"},
        {"noise_multiplier": -1},
        {"noise_multiplier": math.nan},
        {"sampling_rate": 0.5},  # of a mechanism that reads every image
        {"steps": 0},
        {"sensitivity": 0},
        {"mechanism": "discrete_gaussian", "sensitivity": 1.5},
    ],
)
def test_impossible_mechanisms(fields: dict):
    with pytest.raises(ValidationError):
        Mechanism(**{"mechanism": "gaussian", "noise_multiplier": 1, **fields})


@settings(deadline=None, max_examples=10)
@given(st.integers(3, 10**9))
def test_default_delta_is_below_one_image_in_n(n: int):
    assert 0 < delta_default(n) < 1 / n
