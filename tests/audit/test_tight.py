"""A lower bound of mu approaches it from below, and is above it as seldom as it says."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from tckr.audit.tight import Scores, empirical_mu, log_likelihood_ratio, tightness
from tckr.dp import Mechanism
from tckr.errors import UserError


@pytest.mark.parametrize("mu", [0.25, 1.0, 2.0, 4.0])
def test_it_approaches_mu_from_below(mu: float) -> None:
    random = np.random.default_rng(0)
    found = [
        empirical_mu(random.normal(mu, 1, n), random.normal(0, 1, n)).value
        for n in (500, 5000, 200_000)
    ]
    assert found == sorted(found)
    assert 0.98 * mu - 0.02 < found[-1] < mu


@pytest.mark.parametrize("mu", [0.0, 1.0, 3.0])
def test_it_is_above_mu_as_seldom_as_it_says(mu: float) -> None:
    random = np.random.default_rng(1)
    found = np.array(
        [
            empirical_mu(random.normal(mu, 1, 300), random.normal(0, 1, 300), 0.8, seed).value
            for seed in range(300)
        ]
    )
    assert (found > mu).mean() < 0.2
    if mu:  # and not because it says nothing
        assert found.mean() > 0.6 * mu


def test_a_test_for_absence_counts_as_well() -> None:
    random = np.random.default_rng(2)
    present, absent = random.normal(-2, 1, 20_000), random.normal(0, 1, 20_000)
    assert 1.9 < empirical_mu(present, absent).value < 2


def test_what_shows_nothing_is_zero() -> None:
    found = empirical_mu([0.0] * 10, [0.0] * 10)
    assert found.value == 0
    poisson = Mechanism(
        mechanism="subsampled_gaussian", noise_multiplier=1, sampling_rate=0.1, steps=10
    )
    same = tightness([poisson], Scores(np.zeros(10), np.zeros(10)))
    assert not same.contradicts
    assert not math.isnan(same.proven)


def test_scores_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(UserError):
        empirical_mu([math.nan, 1.0], [0.0, 0.0])


def test_the_ratio_is_that_of_the_densities() -> None:
    poisson = Mechanism(
        mechanism="subsampled_gaussian", noise_multiplier=0.7, sampling_rate=0.2, steps=2, sensitivity=3
    )  # fmt: skip
    answers = np.array([[-1.0, 0.0, 4.0], [2.0, 3.0, 9.0]])
    without = norm.pdf(answers, 0, 2.1)
    mixed = 0.8 * without + 0.2 * norm.pdf(answers, 3, 2.1)
    expected = np.log(mixed / without).sum(0)
    assert np.allclose(log_likelihood_ratio(answers, poisson), expected)


def test_a_poisson_sample_is_compared_with_its_own_curve() -> None:
    """Its test shows more at large false-positive rates than the Gaussian of its epsilon allows at small ones."""
    poisson = Mechanism(
        mechanism="subsampled_gaussian", noise_multiplier=0.8, sampling_rate=0.1, steps=20
    )
    random = np.random.default_rng(3)
    noise = 0.8 * random.normal(size=(2, 20, 50_000))
    noise[0] += random.random(noise[0].shape) < 0.1
    found = tightness([poisson], Scores(*(log_likelihood_ratio(each, poisson) for each in noise)))
    assert not found.contradicts
    assert 0.85 < found.measured.value / found.proven < 1
