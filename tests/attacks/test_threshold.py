import numpy as np

from tckr.attacks import threshold


def test_the_score_is_the_confidence(small):
    np.testing.assert_array_equal(threshold(small.target_scores), small.target_scores)
    assert threshold(small.target_scores) is not small.target_scores
    np.testing.assert_array_equal(threshold(np.array([[1.0, 3.0], [0.0, 1.0]])), [2.0, 0.5])
