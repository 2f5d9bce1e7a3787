"""The logit-scaled confidence is exact where probabilities round to 1."""

import numpy as np
import pytest

from tckr.audit.signals import logit_scaled


def test_equals_the_definition():
    logits = np.array([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]])
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = [np.log(p[0, 1] / (1 - p[0, 1])), np.log(p[1, 0] / (1 - p[1, 0]))]
    np.testing.assert_allclose(logit_scaled(logits, [1, 0]), expected)


def test_stable_far_from_one_half():
    logits = np.float32([[900, 0, 0], [-900, 0, 0]])
    np.testing.assert_allclose(
        logit_scaled(logits, [0, 0]), [900 - np.log(2), -900 - np.log(2)], rtol=1e-12
    )
    assert logit_scaled([[0.0, 0.0]], [1])[0] == 0


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        ([[np.nan, 1.0]], [0], "NaN"),
        ([[1.0]], [0], "C >= 2"),
        ([[1.0, 2.0]], [0, 1], "labels"),
    ],
)
def test_refuses(logits, labels, message: str):
    with pytest.raises(ValueError, match=message):
        logit_scaled(logits, labels)
