"""The expected calibration error in cases whose value is known."""

import numpy as np
import pytest

from tckr.metrics.calibration import expected_calibration_error


def two(confidence: float, count: int) -> np.ndarray:
    return np.tile([confidence, 1 - confidence], (count, 1))


@pytest.mark.parametrize(
    ("confidence", "right", "error"), [(0.9, 9, 0.0), (0.9, 5, 0.4), (0.6, 10, 0.4)]
)
def test_one_bin(confidence: float, right: int, error: float) -> None:
    labels = np.array([0] * right + [1] * (10 - right))
    assert expected_calibration_error(two(confidence, 10), labels) == pytest.approx(error)


def test_bins_are_weighted_by_their_images() -> None:
    p = np.concatenate([two(0.95, 30), two(0.55, 10)])
    labels = np.array([0] * 24 + [1] * 6 + [0] * 8 + [1] * 2)
    wanted = 0.75 * abs(0.8 - 0.95) + 0.25 * abs(0.8 - 0.55)
    assert expected_calibration_error(p, labels) == pytest.approx(wanted)


def test_labels_drawn_from_the_probabilities_are_calibrated() -> None:
    draw = np.random.default_rng(0)
    p = draw.dirichlet(np.ones(5), 20_000)
    labels = (p.cumsum(1) < draw.random((len(p), 1))).sum(1)
    assert expected_calibration_error(p, labels) < 0.015


@pytest.mark.parametrize(
    ("p", "labels"),
    [([[0.5, 0.6]], [0]), ([[1.2, -0.2]], [0]), ([[0.5, 0.5]], [0, 1]), (np.zeros((0, 2)), [])],
)
def test_refused(p: object, labels: object) -> None:
    with pytest.raises(ValueError, match="probabilities"):
        expected_calibration_error(p, labels)  # type: ignore[arg-type]
