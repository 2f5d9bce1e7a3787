"""LiRA against values by hand and an independent implementation."""

import numpy as np
import pytest
from scipy.stats import norm

from tckr.attacks import lira
from tckr.errors import UserError


def by_loops(small, online: bool, variance: str) -> np.ndarray:
    """The same attack, example by example, with scipy's normal distribution."""
    ins, outs = zip(*(small.sides(i) for i in range(3)), strict=True)

    def spread(groups, i: int) -> float:
        if variance == "per_example":
            return float(np.std(groups[i], ddof=1))
        return float(np.sqrt(np.mean([np.var(group, ddof=1) for group in groups])))

    scores = []
    for i, x in enumerate(small.target_scores):
        out = norm(outs[i].mean(), spread(outs, i))
        if online:
            scores.append(norm(ins[i].mean(), spread(ins, i)).logpdf(x) - out.logpdf(x))
        else:
            scores.append(norm.ppf(out.cdf(x)))  # one-sided: rank of P[Z <= x]
    return np.array(scores)


@pytest.mark.parametrize("variance", ["per_example", "global"])
@pytest.mark.parametrize("online", [True, False])
def test_the_score_is_the_likelihood_ratio(small, online: bool, variance):
    ours = lira(small.target_scores, small.shadow_scores, small.membership, online, variance)
    np.testing.assert_allclose(ours, by_loops(small, online, variance), rtol=1e-9)


def test_by_hand(small):
    # Example 0: in {2, 4}: mean 3, variance 2; out {0, 1}: mean 0.5, variance 0.5; target 1.
    expected = -0.5 * (4 / 2 + np.log(2)) + 0.5 * (0.25 / 0.5 + np.log(0.5))
    arrays = small.target_scores, small.shadow_scores, small.membership
    assert lira(*arrays)[0] == pytest.approx(expected)
    assert lira(*arrays, online=False)[0] == pytest.approx(0.5 / np.sqrt(0.5))


def test_offline_is_one_sided(small):
    """A confidence far below the out scores is no sign of a member."""
    low, high = (
        lira(small.target_scores + shift, small.shadow_scores, small.membership, online=False)
        for shift in (-50, 50)
    )
    assert (low < -10).all()
    assert (high > 10).all()


@pytest.mark.parametrize("variance", ["per_example", "global"])
def test_equal_scores_stay_finite(small, variance):
    flat = np.ones((4, 3))
    assert np.isfinite(lira(small.target_scores, flat, small.membership, variance=variance)).all()


@pytest.mark.parametrize("variance", ["per_example", "global"])
def test_too_few_shadows_for_the_variance(small, variance):
    with pytest.raises(UserError, match=f"too few for a {variance} variance"):
        lira(small.target_scores, small.shadow_scores[:2], small.membership[:2], variance=variance)
