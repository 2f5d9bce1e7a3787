"""BaVarIA-t against values by hand, scipy's Student-t, and the two LiRAs it lies between."""

import numpy as np
import pytest
from scipy.special import digamma, polygamma
from scipy.stats import invgamma, norm, rankdata, t

from tckr.attacks import bavaria_t, lira
from tckr.attacks.arrays import Moments
from tckr.attacks.bavaria import fit_prior
from tckr.audit.membership import membership_matrix
from tckr.errors import UserError
from tckr.metrics import auc


def moments_of(small, side: int) -> Moments:
    groups = [small.sides(i)[side] for i in range(3)]
    squares = np.array([group.var() * len(group) for group in groups])
    counts = np.array([len(group) for group in groups])
    return Moments(counts, np.array([group.mean() for group in groups]), squares)


def predictive(x: np.ndarray, ins: np.ndarray, outs: np.ndarray, prior, i: int):
    """Posterior predictive of a score with design x by Bayesian linear regression, its sums as matrices."""
    design = np.array([[1.0, 0.0]] * len(outs) + [[1.0, 1.0]] * len(ins))
    weights = np.diag([1.0] * len(outs) + [1 / prior.ratio] * len(ins))
    y, mean = np.concatenate([outs, ins]), np.array([prior.mu, prior.shift[i]])
    own = np.diag([prior.kappa, prior.kappa_shift])
    precision = own + design.T @ weights @ design
    centre = np.linalg.solve(precision, own @ mean + design.T @ weights @ y)
    alpha = prior.alpha + len(y) / 2
    squares = y @ weights @ y + mean @ own @ mean - centre @ precision @ centre
    noise = prior.ratio if x[1] else 1.0
    variance = (prior.beta + squares / 2) / alpha * (noise + x @ np.linalg.solve(precision, x))
    return t(2 * alpha, x @ centre, np.sqrt(variance))


def test_the_score_is_the_ratio_of_predictives(small):
    inside, out = (moments_of(small, side) for side in (0, 1))
    both, alone = fit_prior(out, inside), fit_prior(out)
    online, offline = [], []
    for i, x in enumerate(small.target_scores):
        ins, outs = small.sides(i)
        seen, unseen = (predictive(np.array([1.0, d]), ins, outs, both, i) for d in (1.0, 0.0))
        online.append(seen.logpdf(x) - unseen.logpdf(x))
        without = predictive(np.array([1.0, 0.0]), np.zeros(0), outs, alone, i)
        offline.append(norm.ppf(without.cdf(x)))
    arrays = small.target_scores, small.shadow_scores, small.membership
    np.testing.assert_allclose(bavaria_t(*arrays), online, rtol=1e-6)
    np.testing.assert_allclose(bavaria_t(*arrays, online=False), offline, rtol=0.02)


def test_the_prior_by_hand(small):
    # Out: {0, 1}, {0, -1}, {1, 2}: means 0.5, -0.5, 1.5, every variance 0.5: none to explain, so
    # that alpha is at its end. The means vary by 2/3, 1/4 of it by chance: kappa = 0.5 / (5 / 12).
    mu, kappa, alpha, beta, *_ = fit_prior(moments_of(small, 1))
    assert mu == pytest.approx(0.5)
    assert kappa == pytest.approx(0.5 / (2 / 3 - 0.25))
    assert alpha == 1e6
    # One squared deviation is 0.5 = beta / alpha times a chi-square, whose log has mean psi(1/2) + log 2.
    assert np.log(beta) - digamma(alpha) == pytest.approx(
        np.log(0.5) - digamma(0.5) + np.log(0.5), rel=1e-9
    )


@pytest.mark.parametrize("scene", ["the same for all", "larger for the hard"])
def test_the_shift_is_found_where_examples_differ_by_more(scene: str):
    """Every image shifted by about 0.3, means 3 apart, 8 shadows: the best possible score has an AUC of 57.9."""
    n, areas = 6000, []
    for seed in range(3):
        random = np.random.default_rng(seed)
        mean = random.normal(3, 3, n)
        shift = 0.3 if scene == "the same for all" else 0.6 / (1 + np.exp(mean - 3))
        membership = membership_matrix(n, 8, 0.5, seed)
        inside = np.arange(n) < n // 2
        target = mean + shift * inside + random.normal(size=n)
        shadow = mean + shift * membership + random.normal(size=(8, n))
        arrays = target, shadow, membership
        areas.append(
            [
                auc(scores, inside).value
                for scores in (bavaria_t(*arrays), lira(*arrays, variance="global"))
            ]
        )
    ours, theirs = np.mean(areas, axis=0)
    assert ours > theirs + 0.02
    if scene == "the same for all":
        assert ours == pytest.approx(0.579, abs=0.01)


@pytest.mark.parametrize("count", [2, 4, 32])
def test_the_prior_is_found_again(count: int):
    """Scores drawn from a normal-inverse-gamma model give its parameters back."""
    random = np.random.default_rng(count)
    mu, kappa, alpha, beta = 3.0, 0.2, 2.5, 1.5
    n = 200_000
    variance = invgamma(alpha, scale=beta).rvs(n, random_state=random)
    mean = random.normal(mu, np.sqrt(variance / kappa))
    scores = random.normal(mean, np.sqrt(variance), (count, n))
    found = fit_prior(Moments(np.full(n, count), scores.mean(0), scores.var(0) * count))
    assert found.mu == pytest.approx(mu, abs=0.05)
    np.testing.assert_allclose(found[1:4], (kappa, alpha, beta), rtol=0.06)


def test_the_prior_on_the_shift_is_found_again():
    """Shifts N(0.5, 1 / kappa), means far apart, "in" scores of twice the variance."""
    random, n = np.random.default_rng(0), 100_000
    mean, shift = random.normal(0, 5, n), 0.5 + random.normal(0, np.sqrt(1 / 4.0), n)
    out = random.normal(mean, 1, (4, n))
    inside = random.normal(mean + shift, np.sqrt(2), (4, n))
    found = fit_prior(
        *(Moments(np.full(n, 4), side.mean(0), side.var(0) * 4) for side in (out, inside))
    )
    assert found.ratio == pytest.approx(2, rel=0.02)
    assert found.kappa_shift == pytest.approx(4, rel=0.06)
    assert found.shift.mean() == pytest.approx(0.5, abs=0.02)
    assert np.ptp(found.shift) < 0.2  # whatever the difficulty


def test_variances_of_a_log_spread_are_matched():
    """Counts that differ: the sampling error of each is its own."""
    random = np.random.default_rng(0)
    counts = random.integers(1, 12, 100_000)
    variance = invgamma(3, scale=2).rvs(len(counts), random_state=random)
    squares = variance * random.chisquare(np.maximum(counts - 1, 1)) * (counts > 1)
    found = fit_prior(Moments(counts, random.normal(0, 1, len(counts)), squares))
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
        assert np.corrcoef(ours, theirs)[0, 1] > 0.99
        # One variance of "in" and "out" scores together: LiRA has two, and the noise of their ratio.
        assert np.abs(ours - theirs).mean() < 0.1


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
