"""Figures of a recipe against simulations in which runs differ: how often the intervals cover the truth."""

import numpy as np
import pytest
from scipy.stats import norm

from tckr.errors import UserError
from tckr.metrics import auc, auc_of_runs, clopper_pearson, tpr_of_runs

N = 300


def simulate(seed: int, runs: int, own: float, between: float, leak: float = 0.8):
    """Scores of N(0, 1), a share `own` of whose variance is the example's; members `leak` higher, each run by more or less."""
    random = np.random.default_rng(seed)
    membership = random.permuted(np.arange(runs)[:, None] < np.full(N, runs // 2), axis=0)
    common = np.sqrt(own) * random.normal(size=N)
    noise = np.sqrt(1 - own) * random.normal(size=(runs, N))
    of_run = leak + between * random.normal(size=(runs, 1))
    return common + noise + of_run * membership, membership


@pytest.mark.parametrize(
    ("runs", "own", "between"),
    [(8, 0.0, 0.0), (8, 0.5, 0.0), (8, 0.9, 0.2), (8, 0.3, 0.5), (16, 0.5, 0.3)],
)
def test_the_interval_of_the_auc_covers_the_recipes(runs: int, own: float, between: float):
    truth = norm.cdf(0.8 / np.sqrt(2 + between**2))
    repeats = 200
    covered = 0
    for seed in range(repeats):
        found = auc_of_runs(*simulate(seed, runs, own, between)).estimate
        covered += found.low <= truth <= found.high
    low, high = clopper_pearson(covered, repeats, 0.999)
    assert high >= 0.95, covered / repeats
    assert low <= 0.99, covered / repeats  # and is not wide for safety's sake


@pytest.mark.parametrize(
    ("runs", "own", "between", "fpr"),
    [(8, 0.0, 0.0, 0.1), (8, 0.5, 0.0, 0.1), (16, 0.6, 0.3, 0.1), (8, 0.3, 0.3, 0.05)],
)
def test_the_interval_of_the_tpr_covers_the_recipes(
    runs: int, own: float, between: float, fpr: float
):
    truth = norm.sf((norm.isf(fpr) - 0.8) / np.sqrt(1 + between**2))
    repeats = 80
    covered = 0
    for seed in range(repeats):
        found = tpr_of_runs(*simulate(seed, runs, own, between), fpr, resamples=100)
        assert found.measurable
        covered += found.low <= truth <= found.high
    assert clopper_pearson(covered, repeats, 0.999)[1] >= 0.95, covered / repeats


def test_runs_that_differ_widen_the_interval():
    alike, apart = (auc_of_runs(*simulate(0, 8, 0.3, between)) for between in (0.0, 0.6))
    assert apart.between > 2 * alike.between
    assert apart.of_one == pytest.approx(alike.of_one, rel=0.2)
    widths = [found.estimate.high - found.estimate.low for found in (alike, apart)]
    assert widths[1] > 2 * widths[0]


def test_each_run_has_its_own_auc():
    scores, membership = simulate(1, 4, 0.2, 0.2)
    found = auc_of_runs(scores, membership)
    each = [auc(row, inside).value for row, inside in zip(scores, membership, strict=True)]
    assert found.runs == pytest.approx(each)
    assert found.estimate.value == pytest.approx(np.mean(each))


def test_people_count_once():
    scores, membership = simulate(2, 8, 0.9, 0.0)
    twice = np.repeat(scores, 2, 1), np.repeat(membership, 2, 1)
    alone = auc_of_runs(scores, membership).estimate
    people = auc_of_runs(*twice, clusters=np.repeat(np.arange(N), 2)).estimate
    assert people.n_clusters == N
    assert (people.low, people.high) == pytest.approx((alone.low, alone.high), abs=0.005)


def test_a_rate_with_too_few_false_alarms_is_not_measurable():
    assert not tpr_of_runs(*simulate(3, 8, 0.0, 0.0), 0.001).measurable


def test_separated_runs_have_an_interval():
    membership = np.tile(np.arange(40) < 20, (4, 1))
    found = auc_of_runs(membership.astype(float), membership).estimate
    assert (found.value, found.high) == (1.0, 1.0)
    assert 0.7 < found.low < 0.9


def test_refuses():
    with pytest.raises(UserError, match="several runs"):
        auc_of_runs([[1.0, 2.0]], [[True, False]])
    with pytest.raises(UserError, match="no members"):
        auc_of_runs([[1.0, 2.0]] * 2, [[True, True]] * 2)
