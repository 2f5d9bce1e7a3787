"""Scores small enough to check by hand: four shadows, three examples."""

from dataclasses import dataclass

import numpy as np
import pytest


@dataclass(frozen=True)
class Small:
    """Example 0 has in {2, 4} and out {0, 1}; the target says 1."""

    target_scores: np.ndarray
    shadow_scores: np.ndarray
    membership: np.ndarray

    def sides(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """The "in" and the "out" scores of example i."""
        column, member = self.shadow_scores[:, i], self.membership[:, i]
        return column[member], column[~member]


@pytest.fixture
def small() -> Small:
    return Small(
        np.array([1.0, -0.5, 2.0]),
        np.array([[0.0, 1.0, 2.0], [2.0, 0.0, 1.0], [1.0, -1.0, 4.0], [4.0, 2.0, 2.0]]),
        np.array([[0, 1, 1], [1, 0, 0], [0, 0, 1], [1, 1, 0]], dtype=bool),
    )
