"""The best cut against the true mu of a Gaussian mechanism."""

import numpy as np
import pytest
from scipy.stats import norm

from tckr.errors import UserError
from tckr.metrics import Separation, separation


def lower_mu(found: Separation, confidence: float) -> float:
    tpr, fpr = found.ends(confidence)
    return float(norm.ppf(tpr) - norm.ppf(fpr))


@pytest.mark.parametrize("mu", [0.0, 0.5, 2.0])
def test_point_stays_below_the_true_curve(shifted, mu: float):
    random, repeats = np.random.default_rng(3), 400
    bounds = np.array(
        [
            lower_mu(separation(*shifted(random, mu, 300, 300), seed=seed), 0.95)
            for seed in range(repeats)
        ]
    )
    assert (bounds > mu).mean() <= 0.05
    assert np.median(bounds) > mu - 0.7


def test_point_of_many_examples_is_tight(shifted):
    found = separation(*shifted(np.random.default_rng(0), 1.0, 100_000, 100_000))
    assert 0.95 < lower_mu(found, 0.99) < 1.0
    assert (found.of, found.among) == (50_000, 50_000)
    assert lower_mu(found, 0.9999) < lower_mu(found, 0.99)


@pytest.mark.parametrize("sign", [1, -1])
def test_either_side_and_either_direction_is_found(sign: int):
    random, member = np.random.default_rng(1), np.arange(4000) < 2000
    scores = random.normal(size=4000)
    for side in (member, ~member):
        exposed = np.where(side & (random.random(4000) < 0.2), 100.0 * sign, scores)
        found = separation(exposed, member)
        assert (found.finds_members, found.above) == (bool(side[0]), sign > 0)
        assert found.hits == pytest.approx(200, abs=40)
        assert found.false <= 2  # the cut is the next score of the other half


def test_scores_that_say_nothing_give_a_point_that_says_nothing():
    member = np.arange(400) < 200
    tpr, fpr = separation(np.zeros(400), member).ends(0.95)
    assert tpr <= fpr


def test_too_few_scores_are_refused():
    with pytest.raises(UserError, match="2 members and 2 non-members"):
        separation([1.0, 2.0, 3.0], [True, True, False])
    with pytest.raises(UserError, match="NaN"):
        separation([1.0, np.nan, 3.0, 4.0], [True, True, False, False])
