"""The one-run bound against published figures and mechanisms of known epsilon."""

import math

import numpy as np
import pytest

from tckr.metrics import clopper_pearson, epsilon_one_run, one_run_bound


def randomised_response(
    random: np.random.Generator, n: int, epsilon: float, delta: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Fair coins, each told rightly with e^epsilon / (1 + e^epsilon), and bare with delta."""
    flags = random.random(n) < 0.5
    honest = random.random(n) < 1 / (1 + math.exp(-epsilon))
    scores = np.where(flags == honest, 1, -1)
    return np.where(random.random(n) < delta, np.where(flags, 2, -2), scores), flags


@pytest.mark.parametrize(
    ("n", "bound"), [(100, 3.49), (250, 4.42), (500, 5.11), (1000, 5.81), (5000, 7.42)]
)
def test_ceiling_where_all_guesses_are_right(n: int, bound: float):
    """q^r = 0.05 solved for q = e^epsilon / (1 + e^epsilon)."""
    estimate = epsilon_one_run(n, n, 0.0, n)
    q = 0.05 ** (1 / n)
    assert estimate.value == pytest.approx(math.log(q / (1 - q)), abs=1e-9)
    assert estimate.value == pytest.approx(bound, abs=0.005)
    assert (estimate.low, estimate.high) == (estimate.value, math.inf)


@pytest.mark.parametrize(
    ("m", "r", "v", "delta", "bound"),
    [(1000, 100, 75, 1e-4, 0.673), (100_000, 1510, 1439, 1e-5, 2.675)],
)
def test_bounds_printed_in_the_paper(m: int, r: int, v: int, delta: float, bound: float):
    """arXiv 2305.08846v1, appendix D and section 7."""
    assert epsilon_one_run(r, v, delta, m).value == pytest.approx(bound, abs=1e-3)


def test_more_delta_and_fewer_right_guesses_show_less():
    bounds = [epsilon_one_run(200, 180, delta, 1000).value for delta in (0, 1e-5, 1e-4, 1e-3)]
    assert bounds == sorted(bounds, reverse=True)
    assert len(set(bounds)) == 4
    assert epsilon_one_run(200, 100, 0, 1000).value == 0
    assert epsilon_one_run(200, 0, 0, 1000).value == 0


@pytest.mark.parametrize(
    ("epsilon", "delta", "n_guesses"),
    [(0.5, 0.0, 400), (2.0, 0.0, 400), (2.0, 0.0, 101), (4.0, 0.0, 400), (2.0, 1e-3, 100)],
)
def test_bound_stays_below_the_true_epsilon(epsilon: float, delta: float, n_guesses: int):
    random, repeats = np.random.default_rng(3), 1000
    beyond = 0
    for seed in range(repeats):
        scores, flags = randomised_response(random, 500, epsilon, delta)
        beyond += one_run_bound(scores, flags, n_guesses, delta, seed=seed).value > epsilon
    assert clopper_pearson(beyond, repeats, 0.999)[0] <= 0.05


@pytest.mark.parametrize(("epsilon", "n"), [(0.0, 200), (1.0, 200), (1.0, 2000)])
def test_bound_holds_for_fixed_halves_too(epsilon: float, n: int):
    """Half of the examples are members, which are no coins of their own: a tenth is guessed, as the audit does."""
    random, repeats = np.random.default_rng(7), 1000
    flags = np.arange(n) < n // 2
    beyond = 0
    for seed in range(repeats):
        honest = random.random(n) < 1 / (1 + math.exp(-epsilon))
        scores = np.where(flags == honest, 1.0, -1.0)
        beyond += one_run_bound(scores, flags, n // 10, 0.0, seed=seed).value > epsilon
    assert clopper_pearson(beyond, repeats, 0.999)[0] <= 0.05


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 3.0])
def test_bound_of_many_canaries_is_tight(epsilon: float):
    scores, flags = randomised_response(np.random.default_rng(5), 10_000, epsilon)
    bound = one_run_bound(scores, flags, 8000, 0.0).value
    assert bound == pytest.approx(epsilon, rel=0.25)


def test_ties_are_not_guessed_right_by_their_order():
    """Scores that say nothing, members first: a stable sort would call every one of them."""
    flags = np.arange(1000) < 500
    for given in (flags, ~flags):
        bounds = [one_run_bound(np.zeros(1000), given, 600, 0.0, seed=s).value for s in range(20)]
        assert np.median(bounds) == 0
        assert max(bounds) < 0.3


def test_guesses_stand_at_either_end():
    scores, flags = np.array([5.0, 4.0, 3.0, 2.0, 1.0, 0.0]), np.array([1, 1, 0, 1, 1, 0])
    assert one_run_bound(scores, flags, 3, 0.0).method.endswith("3 of 3 guesses right")
    assert one_run_bound(scores, flags, 4, 0.0).method.endswith("3 of 4 guesses right")
    assert one_run_bound(scores, flags, 1, 0.0).method.endswith("1 of 1 guesses right")


def test_refuses():
    with pytest.raises(ValueError, match="not possible"):
        epsilon_one_run(10, 11, 0, 20)
    with pytest.raises(ValueError, match="delta"):
        epsilon_one_run(10, 5, 1.0, 20)
    with pytest.raises(ValueError, match="cannot be made"):
        one_run_bound([1.0, 2.0], [True, False], 3, 0.0)
