"""The membership matrix is balanced, seeded and uniform."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tckr.audit.membership import coin_flips, fingerprint, membership_matrix


@given(
    n_examples=st.integers(1, 200),
    shadows=st.integers(2, 24).flatmap(lambda s: st.tuples(st.just(s), st.integers(1, s - 1))),
    seed=st.integers(0, 2**32),
)
def test_balanced(n_examples: int, shadows: tuple[int, int], seed: int):
    n_shadows, times = shadows
    matrix = membership_matrix(n_examples, n_shadows, times / n_shadows, seed)
    assert matrix.shape == (n_shadows, n_examples)
    assert matrix.dtype == bool
    assert (matrix.sum(0) == times).all()
    assert np.ptp(matrix.sum(1)) <= times


def test_seeded():
    matrix = membership_matrix(100, 8, 0.5, 1)
    np.testing.assert_array_equal(matrix, membership_matrix(100, 8, 0.5, 1))
    assert fingerprint(matrix) != fingerprint(membership_matrix(100, 8, 0.5, 2))
    assert fingerprint(matrix) != fingerprint(matrix.reshape(4, 200))


def test_patterns_are_uniform_and_pairs_unrelated():
    # 4 shadows, 2 of them: 6 patterns for an example, 36 for a pair.
    draws = np.stack([membership_matrix(12, 4, 0.5, seed) for seed in range(3000)])
    codes = (draws * np.array([1, 2, 4, 8])[:, None]).sum(1)
    _, counts = np.unique(codes[:, 0], return_counts=True)
    assert len(counts) == 6
    assert abs(counts - 500).max() < 5 * np.sqrt(500)
    together = draws[:, 0, 0] & draws[:, 0, 1]
    assert abs(together.mean() - 0.25) < 0.05  # a little below: rows are balanced too


@pytest.mark.parametrize(("n_shadows", "inclusion"), [(7, 0.5), (4, 0.0), (4, 1.0), (4, 0.3)])
def test_refuses_what_cannot_be_balanced(n_shadows: int, inclusion: float):
    with pytest.raises(ValueError, match="whole number"):
        membership_matrix(10, n_shadows, inclusion, 0)


@pytest.mark.parametrize(
    ("drawn", "digest"),
    [((100, 8, 0.5, 1), "169222509c119786"), ((4001, 8, 0.5, 12345), "fed30342aec18db9")],
)
def test_without_groups_the_draw_is_that_of_earlier_releases(
    drawn: tuple[int, int, float, int], digest: str
):
    assert fingerprint(membership_matrix(*drawn)) == digest


@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=60),
    shadows=st.sampled_from([(2, 1), (4, 2), (6, 3), (8, 4), (4, 1)]),
    seed=st.integers(0, 2**32),
)
def test_people_are_drawn_whole_and_balanced(sizes: list[int], shadows: tuple[int, int], seed: int):
    n_shadows, times = shadows
    groups = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)) * 7, sizes))
    matrix = membership_matrix(len(groups), n_shadows, times / n_shadows, seed, groups)
    assert matrix.shape == (n_shadows, len(groups))
    assert (matrix.sum(0) == times).all()
    for group in np.unique(groups):
        own = matrix[:, groups == group]
        assert (own == own[:, :1]).all()
    assert np.ptp(matrix.sum(1)) <= times * max(sizes)


def test_sizes_of_shadows_do_not_drift_apart_with_many_people():
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(3000), random.geometric(0.3, 3000))
    matrix = membership_matrix(len(groups), 8, 0.5, 0, groups)
    apart = membership_matrix(3000, 8, 0.5, 0)[:, groups]  # people balanced, images not
    assert np.ptp(matrix.sum(1)) <= 4 < np.ptp(apart.sum(1))


def test_patterns_of_people_are_uniform_whatever_their_size():
    groups = np.repeat(np.arange(5), [9, 4, 4, 2, 1])
    draws = np.stack([membership_matrix(20, 4, 0.5, seed, groups) for seed in range(3000)])
    codes = (draws * np.array([1, 2, 4, 8])[:, None]).sum(1)
    for column in (0, 10, 19):
        _, counts = np.unique(codes[:, column], return_counts=True)
        assert len(counts) == 6
        assert abs(counts - 500).max() < 5 * np.sqrt(500)


def test_coins_are_fair_and_know_nothing_of_each_other() -> None:
    draws = np.stack([coin_flips(8, seed) for seed in range(4000)])
    np.testing.assert_allclose(draws.mean(0), 0.5, atol=0.04)
    np.testing.assert_allclose(np.corrcoef(draws.T) - np.eye(8), 0, atol=0.08)
    # In exact halves the number of members is fixed; here it is binomial.
    assert draws.sum(1).var() == pytest.approx(2.0, rel=0.1)
