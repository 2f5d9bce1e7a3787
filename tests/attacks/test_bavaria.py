"""BaVarIA-t against values by hand, scipy's Student-t, and the two LiRAs it lies between."""

import numpy as np
import pytest
from scipy.special import digamma, polygamma
from scipy.stats import invgamma, norm, rankdata, t

from tckr.attacks import bavaria_t, lira
from tckr.attacks.bavaria import fit_prior
from tckr.audit.membership import membership_matrix
from tckr.errors import UserError
from tckr.metrics import auc


def predictive(values: np.ndarray, prior):
    """Posterior predictive by adding one observation after the other."""
    mu, kappa, alpha, beta = prior
    for x in values:
        beta += kappa * (x - mu) ** 2 / (2 * (kappa + 1))
        mu, kappa, alpha = (kappa * mu + x) / (kappa + 1), kappa + 1, alpha + 0.5
    return t(2 * alpha, mu, np.sqrt(beta * (kappa + 1) / (alpha * kappa)))


def priors(small):
    """The priors of "in" and "out", of moments by numpy."""
    result = []
    for side in (0, 1):
        groups = [small.sides(i)[side] for i in range(3)]
        squares = np.array([group.var() * len(group) for group in groups])
        counts = np.array([len(group) for group in groups])
        result.append(fit_prior(counts, np.array([group.mean() for group in groups]), squares))
    return result


def test_the_score_is_the_ratio_of_predictives(small):
    inside, outside = priors(small)
    online, offline = [], []
    for i, x in enumerate(small.target_scores):
        ins, outs = small.sides(i)
        without = predictive(outs, outside)
        online.append(predictive(ins, inside).logpdf(x) - without.logpdf(x))
        offline.append(norm.ppf(without.cdf(x)))
    arrays = small.target_scores, small.shadow_scores, small.membership
    np.testing.assert_allclose(bavaria_t(*arrays), online, rtol=1e-9)
    np.testing.assert_allclose(bavaria_t(*arrays, online=False), offline, rtol=0.02)


def test_the_prior_by_hand(small):
    # Out: {0, 1}, {0, -1}, {1, 2}: means 0.5, -0.5, 1.5, every variance 0.5: none to explain, so
    # that alpha is at its end. The means vary by 2/3, 1/4 of it by chance: kappa = 0.5 / (5 / 12).
    _, (mu, kappa, alpha, beta) = priors(small)
    assert mu == pytest.approx(0.5)
    assert kappa == pytest.approx(0.5 / (2 / 3 - 0.25))
    assert alpha == 1e6
    # One squared deviation is 0.5 = beta / alpha times a chi-square, whose log has mean psi(1/2) + log 2.
    assert np.log(beta) - digamma(alpha) == pytest.approx(
        np.log(0.5) - digamma(0.5) + np.log(0.5), rel=1e-9
    )


@pytest.mark.parametrize("count", [2, 4, 32])
def test_the_prior_is_found_again(count: int):
    """Scores drawn from a normal-inverse-gamma model give its parameters back."""
    random = np.random.default_rng(count)
    mu, kappa, alpha, beta = 3.0, 0.2, 2.5, 1.5
    n = 200_000
    variance = invgamma(alpha, scale=beta).rvs(n, random_state=random)
    mean = random.normal(mu, np.sqrt(variance / kappa))
    scores = random.normal(mean, np.sqrt(variance), (count, n))
    found = fit_prior(np.full(n, count), scores.mean(0), scores.var(0) * count)
    assert found.mu == pytest.approx(mu, abs=0.05)
    np.testing.assert_allclose(found[1:], (kappa, alpha, beta), rtol=0.06)


def test_variances_of_a_log_spread_are_matched():
    """Counts that differ: the sampling error of each is its own."""
    random = np.random.default_rng(0)
    counts = random.integers(1, 12, 100_000)
    variance = invgamma(3, scale=2).rvs(len(counts), random_state=random)
    squares = variance * random.chisquare(np.maximum(counts - 1, 1)) * (counts > 1)
    found = fit_prior(counts, random.normal(0, 1, len(counts)), squares)
    assert polygamma(1, found.alpha) == pytest.approx(polygamma(1, 3), rel=0.05)


def simulate(n: int, n_shadows: int, seed: int, varied: bool = True):
    """Per-example Gaussians: own mean, own leak, spreads a factor 4 apart."""
    random = np.random.default_rng(seed)
    mean, leak = random.normal(3, 3, n), random.gamma(0.5, 1.2, n)
    spread = np.exp(random.uniform(np.log(0.5), np.log(2), n)) if varied else np.ones(n)
    membership = membership_matrix(n, n_shadows, 0.5, seed)
    is_member = random.permutation(n) < n // 2
    target = mean + leak * is_member + spread * random.normal(size=n)
    shadow = mean + leak * membership + spread * random.normal(size=(n_shadows, n))
    return target, shadow, membership, is_member


def test_many_shadows_give_lira_per_example():
    target, shadow, membership, _ = simulate(300, 1024, 0)
    for online in (True, False):
        ours = bavaria_t(target, shadow, membership, online)
        theirs = lira(target, shadow, membership, online)
        np.testing.assert_allclose(ours, theirs, rtol=0.1, atol=0.05)


def test_examples_that_vary_alike_give_lira_global():
    target, shadow, membership, _ = simulate(4000, 8, 1, varied=False)
    ours = bavaria_t(target, shadow, membership, online=False)
    theirs = lira(target, shadow, membership, online=False, variance="global")
    assert np.corrcoef(rankdata(ours), rankdata(theirs))[0, 1] > 0.995


@pytest.mark.parametrize("n_shadows", [4, 8])
def test_few_shadows_are_no_worse_than_either_lira(n_shadows: int):
    gains = []
    for seed in range(5):
        target, shadow, membership, is_member = simulate(3000, n_shadows, seed)
        ours = auc(bavaria_t(target, shadow, membership), is_member).value
        gains.append(
            [
                ours - auc(lira(target, shadow, membership, True, kind), is_member).value
                for kind in ("per_example", "global")
            ]
        )
    per_example, pooled = np.mean(gains, axis=0)
    assert per_example > 0.005
    assert pooled > -0.001


def test_equal_scores_stay_finite(small):
    flat = np.ones((4, 3))
    half = np.where(
        np.arange(3) == 0, small.shadow_scores, 1.0
    )  # one example varies, the others do not
    for shadow in (flat, half):
        for online in (True, False):
            assert np.isfinite(
                bavaria_t(small.target_scores, shadow, small.membership, online)
            ).all()


def test_offline_does_not_saturate(small):
    far = bavaria_t(np.array([1e3, 1e4, 1e5]), small.shadow_scores, small.membership, online=False)
    assert np.isfinite(far).all()
    assert (np.diff(far) > 0).all()


def test_one_score_of_a_kind_everywhere_has_no_variance(small):
    with pytest.raises(UserError, match="too few"):
        bavaria_t(
            small.target_scores,
            small.shadow_scores[:2],
            np.array([[1, 0, 1], [0, 1, 0]], dtype=bool),
        )
