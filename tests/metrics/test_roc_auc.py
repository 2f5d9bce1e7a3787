"""AUC against closed forms, other implementations, and its own stated coverage."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import bootstrap, norm, t
from sklearn.metrics import roc_auc_score

from tckr.errors import UserError
from tckr.metrics import auc, clopper_pearson, covers_half, roc


@given(arrays(np.int8, st.integers(2, 40), elements=st.integers(-3, 3)), st.data())
def test_auc_with_ties_is_that_of_scikit_learn(scores: np.ndarray, data):
    n = len(scores)
    flags = data.draw(arrays(bool, n).filter(lambda a: a.any() and not a.all()))
    estimate = auc(scores, flags)
    assert estimate.value == pytest.approx(roc_auc_score(flags, scores))
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    false, true = roc(scores, flags)
    assert np.trapezoid(true, false) == pytest.approx(estimate.value)

    grouped = auc(scores, flags, clusters=np.arange(n) // 2 - (n == 2) * np.arange(n), resamples=20)
    assert grouped.value == pytest.approx(estimate.value)
    assert 0 <= grouped.low <= grouped.value <= grouped.high <= 1


def test_auc_by_hand():
    assert auc([1, 2, 2, 3], [False, True, False, True]).value == 0.875
    assert auc([1, 1, 1], [True, False, True]).value == 0.5


def test_circular_roc():
    """TPR = sqrt(1 - (1 - FPR)^2): a quarter of a circle, of area pi / 4."""
    rates = (np.arange(4000) + 0.5) / 4000
    scores = np.concatenate([np.sqrt(1 - rates**2), 1 - rates])
    assert auc(scores, np.arange(8000) < 4000).value == pytest.approx(math.pi / 4, abs=1e-6)


@pytest.mark.parametrize("mu", [0.0, 0.5, 1.0, 2.0])
def test_interval_covers_the_closed_form(shifted, mu: float):
    random, truth, repeats = np.random.default_rng(5), norm.cdf(mu / math.sqrt(2)), 1000
    covered = 0
    for _ in range(repeats):
        estimate = auc(*shifted(random, mu, 120, 150))
        covered += estimate.low <= truth <= estimate.high
    low, high = clopper_pearson(covered, repeats, 0.999)
    assert low <= 0.95 <= high


def test_permuted_membership_covers_one_half(shifted):
    random = np.random.default_rng(6)
    scores, flags = shifted(random, 1.0, 150, 150)
    repeats = 1000
    covered = sum(covers_half(auc(scores, random.permutation(flags))) for _ in range(repeats))
    low, high = clopper_pearson(covered, repeats, 0.999)
    assert low <= 0.95 <= high


@pytest.mark.slow
@pytest.mark.parametrize(("mu", "n_clusters", "size"), [(0.5, 40, 8), (1.0, 100, 4), (2.0, 100, 4)])
def test_clustered_interval_covers_the_closed_form(clustered, mu: float, n_clusters: int, size):
    random, truth, repeats = np.random.default_rng(1), norm.cdf(mu / math.sqrt(2)), 1000
    covered, resamples = 0, 300
    for seed in range(repeats):
        scores, flags, clusters = clustered(random, mu, n_clusters, size)
        estimate = auc(scores, flags, 0.95, clusters, resamples, seed)
        covered += estimate.low <= truth <= estimate.high
    assert 0.93 <= covered / repeats <= 0.97


@pytest.mark.slow
def test_clusters_with_permuted_membership_cover_one_half(clustered):
    random, repeats, covered = np.random.default_rng(2), 1000, 0
    for seed in range(repeats):
        scores, flags, clusters = clustered(random, 0.0, 60, 6)
        # Whole examples are members or not: the widest that correlation can make the interval.
        flags = random.permutation(np.arange(60) < 30)[clusters]
        covered += covers_half(auc(scores, flags, 0.95, clusters, 300, seed))
    assert 0.93 <= covered / repeats <= 0.97


def test_correlated_scores_need_their_clusters(clustered):
    """Where all scores of an example are members' or none is, leaving clusters out is wrong."""
    random, repeats, covered = np.random.default_rng(3), 200, 0
    for _ in range(repeats):
        scores, _, clusters = clustered(random, 0.0, 60, 20)
        covered += covers_half(auc(scores, random.permutation(np.arange(60) < 30)[clusters]))
    assert covered / repeats < 0.7


def test_bootstrap_agrees_with_scipy(clustered):
    scores, flags, clusters = clustered(np.random.default_rng(4), 1.0, 25, 4)
    scores = np.round(scores, 1)  # with ties
    rows, marks = scores.reshape(25, 4), flags.reshape(25, 4)

    def of_drawn(which: np.ndarray) -> float:
        return auc(rows[which].ravel(), marks[which].ravel()).value

    theirs = bootstrap(
        (np.arange(25),), of_drawn, vectorized=False, n_resamples=1000, method="percentile", rng=0
    )
    ours = auc(scores, flags, 0.95, clusters, resamples=5000)
    half = (math.log(ours.high / (1 - ours.high)) - math.log(ours.low / (1 - ours.low))) / 2
    error = half * ours.value * (1 - ours.value) / t.ppf(0.975, 24)
    assert error == pytest.approx(theirs.standard_error, rel=0.08)


def test_names_and_order_of_clusters_do_not_matter(clustered):
    random = np.random.default_rng(5)
    scores, flags, clusters = clustered(random, 1.0, 30, 4)
    order = random.permutation(len(scores))
    one = auc(scores, flags, clusters=clusters)
    other = auc(scores[order], flags[order], clusters=clusters[order] * 7 - 3)
    assert one == other
    assert one.n_clusters == 30
    assert auc(scores, flags, clusters=clusters, seed=1) != one


def test_perfect_separation_does_not_claim_certainty():
    scores, flags = np.arange(40), np.arange(40) >= 20
    estimate = auc(scores, flags)
    assert (estimate.value, estimate.high) == (1.0, 1.0)
    assert estimate.low == pytest.approx(0.025 ** (1 / 20))
    assert auc(scores, ~flags).high == pytest.approx(1 - 0.025 ** (1 / 20))
    # Ten examples with a member's and a non-member's score each make five disjoint pairs.
    grouped = auc(scores, flags, clusters=np.arange(40) % 10)
    assert (grouped.value, grouped.high) == (1.0, 1.0)
    assert grouped.low == pytest.approx(0.025 ** (1 / 5))


def test_refuses_clusters_that_do_not_fit():
    scores, flags = [1.0, 2.0, 3.0], [True, False, True]
    with pytest.raises(UserError, match="do not fit"):
        auc(scores, flags, clusters=[0, 1])
    with pytest.raises(UserError, match="do not fit"):
        auc(scores, flags, clusters=[0.0, 1.0, 2.0])
    with pytest.raises(UserError, match="one example"):
        auc(scores, flags, clusters=[4, 4, 4])
