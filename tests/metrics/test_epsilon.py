"""The epsilon bound of the two error rates against the true epsilon of a Gaussian mechanism."""

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from tckr.errors import UserError
from tckr.metrics import epsilon_lower_bound


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Of N(0, 1) against N(mu, 1) (Balle & Wang, ICML 2018, theorem 8)."""
    return float(
        brentq(
            lambda epsilon: (
                norm.cdf(mu / 2 - epsilon / mu)
                - np.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu)
                - delta
            ),
            0,
            100,
        )
    )


@pytest.mark.parametrize(("mu", "delta"), [(0.5, 1e-1), (1.0, 1e-3), (2.0, 1e-3), (2.0, 1e-1)])
def test_bound_stays_below_the_true_epsilon(shifted, mu: float, delta: float):
    random, repeats = np.random.default_rng(8), 1000
    truth = gaussian_epsilon(mu, delta)
    bounds = []
    for seed in range(repeats):
        scores, flags = shifted(random, mu, 500, 500)
        bounds.append(epsilon_lower_bound(scores, flags, delta, 0.95, seed).value)
    assert np.mean(np.array(bounds) > truth) <= 0.05
    if mu >= 1:
        assert np.median(bounds) > truth / 4  # and says something


@pytest.mark.parametrize(("mu", "delta"), [(0.5, 1e-2), (1.0, 1e-2), (1.0, 1e-3), (2.0, 1e-2)])
def test_bound_of_many_examples_is_tight(shifted, mu: float, delta: float):
    truth = gaussian_epsilon(mu, delta)
    scores, flags = shifted(np.random.default_rng(0), mu, 400_000, 400_000)
    assert 0.75 * truth <= epsilon_lower_bound(scores, flags, delta).value <= truth


def test_bound_sees_exposed_members_and_exposed_non_members():
    random = np.random.default_rng(1)
    scores, flags = random.normal(size=4000), np.arange(4000) < 2000
    for side, far in ((flags, 100.0), (~flags, -100.0)):
        exposed = np.where(side & (random.random(4000) < 0.2), far, scores)
        # 200 of the 1,000 in the test half against none: about ln(0.17 / 0.0037).
        assert 3.5 < epsilon_lower_bound(exposed, flags, 0).value < 4.1


def test_bound_without_leak_is_nothing(shifted):
    scores, flags = shifted(np.random.default_rng(9), 0, 500, 500)
    assert epsilon_lower_bound(scores, flags, 0).value == 0


def test_refuses():
    with pytest.raises(UserError, match="2 members"):
        epsilon_lower_bound([1.0, 2.0, 3.0], [True, False, False], 0)
    with pytest.raises(ValueError, match="delta"):
        epsilon_lower_bound([1.0, 2.0], [True, False], 1.0)
