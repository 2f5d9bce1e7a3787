"""QMIA: cross-fitted regression of the confidence of unseen examples."""

import numpy as np
import pytest

from tckr.attacks import qmia, threshold
from tckr.errors import UserError
from tckr.metrics import auc


def examples(seed: int = 0, n: int = 2000, leak: float = 1.0):
    """Confidence whose mean and spread follow from features, and a leak of the members."""
    random = np.random.default_rng(seed)
    features = random.normal(0, 1, (n, 8))
    is_member = np.arange(n) % 2 == 0
    spread = np.exp(0.5 * features[:, 1])
    expected = 3 * features[:, 0]
    target = expected + spread * random.normal(0, 1, n) + leak * is_member
    return target, features, is_member, expected, spread


def test_the_score_is_the_standardised_surprise():
    target, features, is_member, expected, spread = examples()
    scores = qmia(target, features, ~is_member)
    assert np.corrcoef(scores, (target - expected) / spread)[0, 1] > 0.97


def test_features_help_where_hardness_differs():
    target, features, is_member, *_ = examples()
    ours = auc(qmia(target, features, ~is_member), is_member)
    assert ours.low > auc(threshold(target), is_member).high


def test_no_example_is_scored_by_the_regressor_that_it_trained():
    """Non-members that trained the regressors score like those that did not; so does pure noise.

    With as many features as this, a fit scored on its own data would bring the references' scores
    towards 0 and make the members stand out without any leak.
    """
    random = np.random.default_rng(1)
    n = 600
    target, features = random.normal(0, 1, n), random.normal(0, 1, (n, 200))
    is_member = np.arange(n) < n // 2
    scores = qmia(target, features, ~is_member)
    area = auc(np.abs(scores), is_member)
    assert area.low < 0.5 < area.high


def test_a_reference_does_not_shift_its_own_fit():
    target, features, is_member, *_ = examples(n=400)
    first = int(np.flatnonzero(~is_member)[0])
    moved = target.copy()
    moved[first] += 100.0
    before, after = qmia(target, features, ~is_member), qmia(moved, features, ~is_member)
    # Mean and scale that it is judged by are those without it: the score rises linearly.
    again = target.copy()
    again[first] += 200.0
    rise = qmia(again, features, ~is_member)[first] - after[first]
    assert rise == pytest.approx(after[first] - before[first], rel=1e-6)


def test_bad_input(small):
    target, features, is_member, *_ = examples(n=200)
    with pytest.raises(UserError, match="do not fit"):
        qmia(target, features[:-1], ~is_member)
    with pytest.raises(UserError, match="do not fit"):
        qmia(target, features, ~is_member[:-1])
    with pytest.raises(UserError, match="NaN"):
        qmia(target, np.where(features > 2, np.nan, features), ~is_member)
    with pytest.raises(UserError, match="20 known non-members are too few"):
        qmia(target, features, np.arange(200) < 20)
