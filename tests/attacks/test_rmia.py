"""RMIA against values by hand and the table of all pairs."""

import numpy as np
import pytest

from tckr.attacks import rmia
from tckr.errors import UserError
from tckr.metrics import auc


def sigmoid(phi):
    return 1 / (1 + np.exp(-phi))


def by_table(small, population, gamma: float, online: bool, a: float) -> np.ndarray:
    """Every pair of x and z, in plain probabilities."""
    ratio = []
    for i, phi in enumerate(small.target_scores):
        inside, outside = (sigmoid(side).mean() for side in small.sides(i))
        reference = (inside + outside) / 2 if online else ((1 + a) * outside + 1 - a) / 2
        ratio.append(sigmoid(phi) / reference)
    return np.array([np.mean([x / ratio[z] >= gamma for z in population]) for x in ratio])


@pytest.mark.parametrize("online", [True, False])
@pytest.mark.parametrize("gamma", [0.8, 1.0, 1.3])
@pytest.mark.parametrize("population", [None, [1, 2], [True, False, True]])
def test_the_score_is_the_share_of_pairs_won(small, population, gamma: float, online: bool):
    chosen = None if population is None else np.array(population)
    played = np.arange(3) if chosen is None else np.arange(3)[chosen]
    ours = rmia(
        small.target_scores,
        small.shadow_scores,
        small.membership,
        chosen,
        gamma,
        online=online,
        offline_a=0.4,
    )
    np.testing.assert_allclose(ours, by_table(small, played, gamma, online, 0.4))


def test_by_hand():
    # p = 1/2 everywhere for z; x: 3/4 of the target, 1/4 and 1/2 of its shadows: ratio 2 against 1.
    phi = {0.25: -np.log(3), 0.5: 0.0, 0.75: np.log(3)}
    target = [phi[0.75], phi[0.5]]
    shadow = [[phi[0.25], phi[0.5]], [phi[0.5], phi[0.5]]]
    inside = [[False, True], [True, False]]
    assert rmia(target, shadow, inside, [1], 1.9).tolist() == [1, 0]
    assert rmia(target, shadow, inside, [1], 2.1).tolist() == [0, 0]
    # Offline: p_out = 1/4, p_in = 1/4 a + 1 - a = 0.85 at a = 0.2: 0.75 / 0.55 against 0.5 / 0.55.
    ours = [rmia(target, shadow, inside, [1], g, online=False, offline_a=0.2) for g in (0.99, 1.01)]
    other = 0.5 / ((0.5 + 0.9) / 2)
    assert 0.75 / 0.55 / other > 1.01
    assert [one.tolist() for one in ours] == [[1, 1], [1, 0]]


def test_sure_models_do_not_round_to_nothing(small):
    """Confidences of 1 - 1e-300 and of 1e-300 still have an order."""
    scores = rmia(small.target_scores * 500, small.shadow_scores * 500, small.membership)
    assert np.isfinite(scores).all()
    low = rmia([-800.0, -801.0], [[0.0, 0.0], [0.0, 0.0]], [[True, False], [False, True]])
    assert low[0] > low[1]


def test_confidences_near_one_keep_their_order():
    """Where phi is 38, 1 - p is 3e-17: the mean of such p rounds to 1, and what it left would be ranked as noise."""
    random, inside = np.random.default_rng(0), np.arange(2000) < 1000
    membership = random.permuted(np.arange(8)[:, None] < np.full(2000, 4), axis=0)
    mean = random.normal(0, 0.5, 2000)
    target = mean + 0.8 * inside + random.normal(size=2000) / 2
    shadow = mean + 0.8 * membership + random.normal(size=(8, 2000)) / 2
    sure, surer = (
        auc(rmia(target + level, shadow + level, membership), inside).value for level in (20, 45)
    )
    assert surer == pytest.approx(sure, abs=1e-6)


@pytest.mark.parametrize("population", [[], [3], [-1], [0.5], np.zeros(3, dtype=bool), [[0]]])
def test_a_population_of_nobody_here(small, population):
    with pytest.raises(UserError, match="population"):
        rmia(small.target_scores, small.shadow_scores, small.membership, population)


def test_ranges(small):
    for wrong in ({"gamma": 0.0}, {"offline_a": 1.5}):
        with pytest.raises(ValueError, match="need gamma"):
            rmia(small.target_scores, small.shadow_scores, small.membership, **wrong)
