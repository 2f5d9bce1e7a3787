"""Attacks against values by hand, an independent implementation, and planted leaks."""

import numpy as np
import pytest
from scipy.stats import norm

from tckr.errors import UserError
from tckr.membership.attacks import lira, threshold
from tckr.membership.design import membership_matrix
from tckr.membership.statistics import auc

TARGET = np.array([1.0, -0.5, 2.0])
SHADOW = np.array([[0.0, 1.0, 2.0], [2.0, 0.0, 1.0], [1.0, -1.0, 4.0], [4.0, 2.0, 2.0]])
INSIDE = np.array([[0, 1, 1], [1, 0, 0], [0, 0, 1], [1, 1, 0]], dtype=bool)


def by_loops(online: bool, variance: str) -> np.ndarray:
    """The same attack, example by example, with scipy's normal distribution."""
    ins = [SHADOW[INSIDE[:, i], i] for i in range(3)]
    outs = [SHADOW[~INSIDE[:, i], i] for i in range(3)]

    def spread(groups: list[np.ndarray], i: int) -> float:
        if variance == "per_example":
            return float(np.std(groups[i], ddof=1))
        return float(np.sqrt(np.mean([np.var(group, ddof=1) for group in groups])))

    scores = []
    for i, x in enumerate(TARGET):
        out = norm(outs[i].mean(), spread(outs, i))
        if online:
            scores.append(norm(ins[i].mean(), spread(ins, i)).logpdf(x) - out.logpdf(x))
        else:
            scores.append(norm.ppf(out.cdf(x)))  # one-sided: rank of P[Z <= x]
    return np.array(scores)


@pytest.mark.parametrize("variance", ["per_example", "global"])
@pytest.mark.parametrize("online", [True, False])
def test_lira_is_the_likelihood_ratio(online: bool, variance):
    ours = lira(TARGET, SHADOW, INSIDE, online, variance)
    np.testing.assert_allclose(ours, by_loops(online, variance), rtol=1e-9)


def test_lira_by_hand():
    # Example 0: in {2, 4}: mean 3, variance 2; out {0, 1}: mean 0.5, variance 0.5; target 1.
    expected = -0.5 * (4 / 2 + np.log(2)) + 0.5 * (0.25 / 0.5 + np.log(0.5))
    assert lira(TARGET, SHADOW, INSIDE)[0] == pytest.approx(expected)
    assert lira(TARGET, SHADOW, INSIDE, online=False)[0] == pytest.approx(0.5 / np.sqrt(0.5))


def test_offline_is_one_sided():
    """A confidence far below the out scores is no sign of a member."""
    low, high = (lira(TARGET + shift, SHADOW, INSIDE, online=False) for shift in (-50, 50))
    assert (low < -10).all()
    assert (high > 10).all()


def test_offline_reads_no_in_score():
    changed = np.where(INSIDE, 99.0, SHADOW)
    np.testing.assert_array_equal(
        lira(TARGET, SHADOW, INSIDE, online=False), lira(TARGET, changed, INSIDE, online=False)
    )


def test_threshold_is_the_confidence():
    np.testing.assert_array_equal(threshold(TARGET), TARGET)
    assert threshold(TARGET) is not TARGET


@pytest.mark.parametrize("variance", ["per_example", "global"])
def test_equal_scores_stay_finite(variance):
    flat = np.ones((4, 3))
    assert np.isfinite(lira(TARGET, flat, INSIDE, variance=variance)).all()


@pytest.mark.parametrize(
    ("target", "shadow", "inside", "variance", "message"),
    [
        (TARGET * np.nan, SHADOW, INSIDE, "global", "NaN"),
        (TARGET, np.where(INSIDE, np.inf, SHADOW), INSIDE, "global", "NaN"),
        (TARGET, SHADOW[:, :2], INSIDE, "global", "do not fit"),
        (TARGET[:2], SHADOW, INSIDE, "global", "do not fit"),
        (TARGET, SHADOW[:2], INSIDE[:2], "per_example", "too few"),
        (TARGET, SHADOW[:2], INSIDE[:2], "global", "too few"),
    ],
)
def test_refuses(target, shadow, inside, variance, message: str):
    with pytest.raises(UserError, match=message):
        lira(target, shadow, inside, variance=variance)


@pytest.mark.parametrize("attack", ["threshold", "online", "offline"])
def test_planted_leak_is_ranked_right(attack: str):
    """The more of the members are memorised, the larger the AUC; none gives 0.5."""
    random = np.random.default_rng(0)
    n = 4000
    hardness = random.normal(0, 1, n)
    membership = membership_matrix(n, 16, 0.5, 0)
    is_member = np.arange(n) < n // 2
    areas = []
    for fraction in (0.0, 0.1, 1.0):
        memorised = random.random(n) < fraction

        def model(inside: np.ndarray, memorised: np.ndarray = memorised) -> np.ndarray:
            return hardness + random.normal(0, 1, n) + 2.0 * (inside & memorised)

        target = model(is_member)
        shadow = np.stack([model(row) for row in membership])
        scores = (
            threshold(target)
            if attack == "threshold"
            else lira(target, shadow, membership, attack == "online", "global")
        )
        areas.append(auc(scores, is_member))
    assert areas[0].low < 0.5 < areas[0].high
    assert areas[0].value < areas[1].value < areas[2].value
    assert areas[2].low > 0.7
