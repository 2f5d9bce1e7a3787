"""Independent signals add as their squared distances do; a thing that says nothing, or the reverse, takes nothing away."""

import numpy as np
import pytest
from scipy.stats import norm

from tckr.attacks import fuse, rmia
from tckr.audit.membership import membership_matrix
from tckr.audit.vulnerability import leave_one_out
from tckr.errors import UserError
from tckr.metrics import auc

S, N = 8, 2400
IS_MEMBER = np.arange(N) < N // 2


def area(distance: float) -> float:
    """AUC of two normal populations of spread 1 at this distance: Phi(d' / sqrt 2)."""
    return float(norm.cdf(distance / np.sqrt(2)))


def drawn(leaks: list[float], seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random, inside = np.random.default_rng(seed), membership_matrix(N, S, 0.5, seed)
    shift = np.array(leaks)
    target = random.normal(size=(N, len(leaks))) + shift * IS_MEMBER[:, None]
    return target, random.normal(size=(S, N, len(leaks))) + shift * inside[..., None], inside


@pytest.mark.parametrize("leaks", [(0.4, 0.4), (0.5, 0.4), (0.4, 0.0, 0.4)])
def test_squared_distances_add_up(leaks: tuple[float, ...]) -> None:
    found = np.mean([auc(fuse(*drawn(list(leaks), s)).scores, IS_MEMBER).value for s in range(4)])
    spread = np.sqrt((N + 1) / (12 * (N / 2) ** 2) / 4)
    assert abs(found - area(float(np.linalg.norm(leaks)))) < 3 * spread
    assert found > area(max(leaks)) + 0.01


def test_every_shadow_is_scored_by_a_model_of_the_others() -> None:
    target, shadows, inside = drawn([0.3, 0.3], 1)
    first = fuse(target, shadows, inside)
    other = inside.copy()
    other[0] = ~other[0]  # who is in the first shadow says nothing about its own scores
    np.testing.assert_array_equal(first.on_shadows[0], fuse(target, shadows, other).on_shadows[0])
    assert (first.on_shadows[1] != fuse(target, shadows, other).on_shadows[1]).any()
    assert auc(first.on_shadows.ravel(), inside.ravel()).low > area(0.3)


def test_nothing_is_found_where_nothing_leaks() -> None:
    fused = [fuse(*drawn([0.0, 0.0], seed)) for seed in range(6)]
    areas = [auc(one.scores, IS_MEMBER).value for one in fused]
    assert abs(np.mean(areas) - 0.5) < 3 * np.sqrt((N + 1) / (12 * (N / 2) ** 2) / 6)
    assert any(not one.weights.any() for one in fused)


def test_what_the_shadows_call_worthless_is_not_used() -> None:
    """A signal that is strong in the target but not in the shadows is none that an attacker could trust."""
    random = np.random.default_rng(0)
    target, shadows, inside = drawn([0.0, 0.5], 3)
    target[:, 0] += 3 * ~IS_MEMBER
    weights = fuse(target, shadows, inside).weights
    assert abs(weights[0]) < 0.05 < weights[1]
    # All of them rank the wrong way round, by what they say of the others: then nobody is called anything.
    wrong = np.where(inside, 0.0, 1.0)[..., None] + 0 * shadows[..., :1]
    none = fuse(random.normal(size=(N, 1)), wrong + random.normal(size=wrong.shape) * 0.01, inside)
    assert none.weights.tolist() != [1.0]
    assert auc(none.on_shadows.ravel(), inside.ravel()).value >= 0.5


def test_calibrated_attacks_fuse() -> None:
    """Two models that each remember a little, attacked by RMIA with shadows: together they say more."""
    random, inside = np.random.default_rng(5), membership_matrix(N, S, 0.5, 5)
    targets, shadows = [], []
    for _ in range(2):
        difficulty = random.normal(0, 2, N)
        own = difficulty + random.normal(size=N) + 0.5 * IS_MEMBER
        others = difficulty + random.normal(size=(S, N)) + 0.5 * inside
        targets.append(rmia(own, others, inside))
        shadows.append(leave_one_out(others, inside, rmia))
    alone = [auc(scores, IS_MEMBER).value for scores in targets]
    together = auc(fuse(np.stack(targets, -1), np.stack(shadows, -1), inside).scores, IS_MEMBER)
    assert together.value > max(alone) + 0.02
    assert together.low > 0.5


def test_what_does_not_fit_is_refused() -> None:
    target, shadows, inside = drawn([0.1, 0.1], 0)
    with pytest.raises(UserError, match="do not fit"):
        fuse(target[:, :1], shadows, inside)
    with pytest.raises(UserError, match="do not fit"):
        fuse(target, shadows[:3], inside[:3])
    with pytest.raises(UserError, match="all examples"):
        fuse(target, shadows, np.ones_like(inside))
    with pytest.raises(UserError, match="NaN"):
        fuse(target * np.nan, shadows, inside)
