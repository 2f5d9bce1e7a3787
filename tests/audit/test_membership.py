"""The membership matrix is balanced, seeded and uniform."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tckr.audit.membership import fingerprint, membership_matrix


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
