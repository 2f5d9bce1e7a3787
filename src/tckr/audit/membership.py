"""Which example is in which shadow's training set."""

import hashlib

import numpy as np
from numpy.typing import NDArray


def membership_matrix(
    n_examples: int, n_shadows: int, inclusion: float, seed: int
) -> NDArray[np.bool_]:
    """Draw a balanced membership matrix.

    Every example is in exactly `n_shadows * inclusion` shadows, so that each has as many "in" and
    "out" scores as any other (Carlini et al., S&P 2022, arXiv 2112.03570, section VI), and shadows
    differ in size by at most that number. The pattern of each example is a uniform draw.

    Args:
        n_examples: N, members and holdout together.
        n_shadows: S.
        inclusion: share of the shadows that an example is in, in (0, 1); 0.5 for online attacks.
        seed: of the draw.

    Returns:
        bool (S, N), True where the example is in the shadow's training set.

    Raises:
        ValueError: `n_shadows * inclusion` is not a whole number between 1 and `n_shadows - 1`.
    """
    times = round(n_shadows * inclusion)
    if abs(times - n_shadows * inclusion) > 1e-9 or not 0 < times < n_shadows:
        raise ValueError(
            f"{n_shadows} shadows x inclusion {inclusion} must be a whole number from 1 to"
            f" {n_shadows - 1}"
        )
    if n_examples < 1:
        raise ValueError("there are no examples")
    random = np.random.default_rng(seed)
    # Square circulant blocks hold `times` in each row and column; shuffling rows and columns keeps
    # that and makes each column a uniform choice of `times` shadows.
    index = np.arange(n_shadows)
    circulant = (index[:, None] - index[None, :]) % n_shadows < times
    n_blocks = -(-n_examples // n_shadows)
    blocks = [circulant[random.permutation(n_shadows)] for _ in range(n_blocks)]
    matrix = np.concatenate(blocks, axis=1)[:, :n_examples]
    return np.ascontiguousarray(matrix[:, random.permutation(n_examples)])


def fingerprint(membership: NDArray[np.bool_]) -> str:
    """First 16 hexadecimal digits of the SHA-256 of shape and entries."""
    shape = "x".join(map(str, membership.shape)).encode()
    return hashlib.sha256(shape + np.packbits(membership).tobytes()).hexdigest()[:16]
