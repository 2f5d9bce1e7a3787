"""Global threshold: the model's own confidence, without any calibration."""

from numpy.typing import ArrayLike

from tckr.attacks.arrays import Floats, check_target_scores


def threshold(target_scores: ArrayLike) -> Floats:
    """Return the target's own confidence (Yeom et al., CSF 2018, arXiv 1709.01604, adversary 2).

    One threshold for all examples; needs no shadow models. It is the baseline that every
    calibrated attack should beat.

    Args:
        target_scores: (N,), logit-scaled confidences; or (N, Q), averaged over Q queries.

    Returns:
        float64 (N,).

    Raises:
        UserError: NaN scores.

    >>> threshold([[1.0, 3.0], [0.0, 1.0]]).tolist()
    [2.0, 0.5]
    """
    return check_target_scores(target_scores).mean(1)
