"""Statistics against closed forms, published figures, and their own stated coverage."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from tckr.errors import UserError
from tckr.membership.statistics import (
    Estimate,
    accuracy_over_privacy,
    auc,
    clopper_pearson,
    epsilon_lower_bound,
    roc,
    tpr_at_fpr,
)

# Of the 62.54 and 62.64 that the authors' lists give for Food101 20x, the file holds the latter.
PUBLISHED = list(csv.DictReader((Path(__file__).parent.parent / "data/tckr_results.csv").open()))


def shifted(random: np.random.Generator, mu: float, m: int, n: int) -> tuple:
    scores = np.concatenate([random.normal(mu, 1, m), random.normal(0, 1, n)])
    return scores, np.arange(m + n) < m


@given(arrays(np.int8, st.integers(2, 40), elements=st.integers(-3, 3)), st.data())
def test_auc_with_ties_is_that_of_scikit_learn(scores: np.ndarray, data):
    n = len(scores)
    flags = data.draw(arrays(bool, n).filter(lambda a: a.any() and not a.all()))
    estimate = auc(scores, flags)
    assert estimate.value == pytest.approx(roc_auc_score(flags, scores))
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    false, true = roc(scores, flags)
    assert np.trapezoid(true, false) == pytest.approx(estimate.value)


def test_auc_by_hand():
    assert auc([1, 2, 2, 3], [False, True, False, True]).value == 0.875
    assert auc([1, 1, 1], [True, False, True]).value == 0.5


@pytest.mark.parametrize("mu", [0.0, 0.3, 1.0, 2.5])
def test_auc_interval_covers_the_closed_form(mu: float):
    random, truth, repeats = np.random.default_rng(5), norm.cdf(mu / math.sqrt(2)), 600
    covered = 0
    for _ in range(repeats):
        estimate = auc(*shifted(random, mu, 120, 150))
        covered += estimate.low <= truth <= estimate.high
    low, high = clopper_pearson(covered, repeats, 0.999)
    assert low <= 0.95 <= high


def test_permuted_membership_covers_one_half():
    random = np.random.default_rng(6)
    scores, flags = shifted(random, 1.0, 150, 150)
    repeats = 1000
    covered = 0
    for _ in range(repeats):
        estimate = auc(scores, random.permutation(flags))
        covered += estimate.low <= 0.5 <= estimate.high
    low, high = clopper_pearson(covered, repeats, 0.999)
    assert low <= 0.95 <= high


def test_perfect_separation_does_not_claim_certainty():
    estimate = auc(np.arange(40), np.arange(40) >= 20)
    assert (estimate.value, estimate.high) == (1.0, 1.0)
    assert estimate.low == pytest.approx(0.025 ** (1 / 20))


@pytest.mark.parametrize(("mu", "fpr"), [(0.0, 0.02), (1.0, 0.02), (2.0, 0.05)])
def test_tpr_interval_covers_the_closed_form(mu: float, fpr: float):
    random, repeats = np.random.default_rng(7), 400
    truth = norm.cdf(mu - norm.ppf(1 - fpr))
    covered, values = 0, []
    for _ in range(repeats):
        estimate = tpr_at_fpr(*shifted(random, mu, 600, 600), fpr)
        covered += estimate.low <= truth <= estimate.high
        values.append(estimate.value)
        assert estimate.low <= estimate.value <= estimate.high
        assert estimate.realised_fpr <= fpr
    assert covered / repeats >= 0.95 - 0.02  # conservative: four bounds share the error
    assert np.mean(values) == pytest.approx(truth, abs=0.02)


def test_tpr_counts_by_hand():
    scores = np.concatenate([np.arange(100), np.full(10, 97.5)])
    flags = np.arange(110) >= 100
    estimate = tpr_at_fpr(scores, flags, 0.02)
    assert (estimate.false_positives, estimate.realised_fpr) == (2, 0.02)
    assert (estimate.true_positives, estimate.value) == (10, 1.0)


def test_tied_non_members_are_rejected_together():
    scores, flags = np.array([5, 5, 5, 1, 5, 6]), np.array([0, 0, 0, 0, 1, 1], dtype=bool)
    estimate = tpr_at_fpr(scores, flags, 0.5)
    assert (estimate.false_positives, estimate.true_positives) == (0, 1)


def test_too_few_non_members_are_not_measurable():
    scores, flags = shifted(np.random.default_rng(0), 1.0, 3000, 3000)
    one, tenth = tpr_at_fpr(scores, flags, 0.01), tpr_at_fpr(scores, flags, 0.001)
    assert one.measurable
    assert one.note == ""
    assert tenth.note == "not measurable with 3,000 non-members"
    assert tenth.to_dict()["value"] is None
    assert tpr_at_fpr(scores, flags, 10 / 3000).measurable


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda r: f"{r['dataset']}-{r['cardinality']}")
def test_published_aop(row: dict[str, str]):
    estimate = accuracy_over_privacy(
        float(row["accuracy_percent"]), float(row["auc_mia_percent"]) / 100
    )
    assert estimate.value == pytest.approx(float(row["aop"]), abs=0.0051)


def test_all_published_triples_are_here():
    assert len(PUBLISHED) == 70


def test_aop_carries_the_interval_and_stops_at_no_leak():
    area = Estimate(0.6, 0.45, 0.7, 0.95, "made up")
    aop = accuracy_over_privacy(90, area)
    assert aop.value == pytest.approx(90 / 1.2**2)
    assert (aop.low, aop.high) == (pytest.approx(90 / 1.4**2), 90)
    assert accuracy_over_privacy(90, 0.4).value == 90


@pytest.mark.parametrize(("accuracy", "area"), [(101, 0.5), (90, 55.0), (-1, 0.5)])
def test_aop_refuses_other_units(accuracy: float, area: float):
    with pytest.raises(ValueError, match="must lie in"):
        accuracy_over_privacy(accuracy, area)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 3.0])
def test_epsilon_bound_of_a_gaussian_mechanism(sigma: float):
    """N(0, s^2) against N(1, s^2): the bound stays below the true epsilon at the stated rate."""
    random, delta, repeats = np.random.default_rng(8), 1e-3, 200
    grid = np.linspace(0, 60, 60001)
    gap = norm.cdf(0.5 / sigma - grid * sigma) - np.exp(grid) * norm.cdf(
        -0.5 / sigma - grid * sigma
    )
    truth = float(grid[np.argmax(gap <= delta)])
    bounds = []
    for seed in range(repeats):
        scores, flags = shifted(random, 1 / sigma, 1000, 1000)
        bounds.append(epsilon_lower_bound(scores, flags, delta, 0.95, seed).value)
    assert np.mean(np.array(bounds) > truth) <= 0.05
    if sigma <= 1:
        assert np.median(bounds) > truth / 4  # and says something


def test_epsilon_bound_without_leak_is_nothing():
    scores, flags = shifted(np.random.default_rng(9), 0, 500, 500)
    assert epsilon_lower_bound(scores, flags, 0).value == 0


def test_figures_are_json():
    scores, flags = shifted(np.random.default_rng(0), 1.0, 50, 50)
    figures = [
        auc(scores, flags),
        tpr_at_fpr(scores, flags, 0.01),
        accuracy_over_privacy(90, auc(scores, flags)),
        epsilon_lower_bound(scores, flags, 1e-5),
    ]
    json.dumps([figure.to_dict() for figure in figures], allow_nan=False)


@pytest.mark.parametrize("statistic", [auc, lambda s, m: tpr_at_fpr(s, m, 0.1)])
def test_refuses(statistic):
    with pytest.raises(UserError, match="NaN"):
        statistic([1.0, np.nan], [True, False])
    with pytest.raises(UserError, match="0 non-members"):
        statistic([1.0, 2.0], [True, True])
    with pytest.raises(UserError, match="do not fit"):
        statistic([1.0, 2.0, 3.0], [True, False])
