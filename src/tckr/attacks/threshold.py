"""The global threshold: the model's own confidence, with nothing to compare it with."""

from numpy.typing import ArrayLike

from tckr.attacks.arrays import Floats, by_query


def threshold(target: ArrayLike) -> Floats:
    """Global threshold on the model's own confidence; no shadows (Yeom et al., arXiv 1709.01604).

    Args:
        target: float64 (N,), or (N, Q): then the mean over the queries.

    Returns:
        float64 (N,).

    Raises:
        UserError: NaN scores.
    """
    return by_query(target).mean(1)
