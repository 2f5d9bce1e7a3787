"""Which example is in which shadow's training set."""

import hashlib

import numpy as np
from numpy.typing import NDArray


def membership_matrix(
    n_examples: int,
    n_shadows: int,
    inclusion: float,
    seed: int,
    groups: NDArray[np.int64] | None = None,
) -> NDArray[np.bool_]:
    """Draw a balanced membership matrix.

    Every example is in exactly `n_shadows * inclusion` shadows, so that each has as many "in" and
    "out" scores as any other (Carlini et al., S&P 2022, arXiv 2112.03570, section VI), and shadows
    differ in size by at most that number. The pattern of each example is a uniform draw.

    With `groups` all examples of one person are in the same shadows: a shadow that knows a person from another image
    would be no shadow without that person. Shadows then differ in size by as little as whole groups allow, at most by
    the largest group times that number.

    Args:
        n_examples: N, members and holdout together.
        n_shadows: S.
        inclusion: share of the shadows that an example is in, in (0, 1); 0.5 for online attacks.
        seed: of the draw.
        groups: int (N,), the person behind each example; None if every example is one of its own.

    Returns:
        bool (S, N), True where the example is in the shadow's training set.

    Raises:
        ValueError: `n_shadows * inclusion` is not a whole number between 1 and `n_shadows - 1`.

    >>> matrix = membership_matrix(6, n_shadows=4, inclusion=0.5, seed=0, groups=np.array([7, 7, 3, 3, 3, 5]))
    >>> matrix.sum(0).tolist(), (matrix[:, 0] == matrix[:, 1]).all()
    ([2, 2, 2, 2, 2, 2], np.True_)
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
    if groups is not None:
        return _by_group(groups, n_shadows, times, random)
    # Square circulant blocks hold `times` in each row and column; shuffling rows and columns keeps
    # that and makes each column a uniform choice of `times` shadows.
    index = np.arange(n_shadows)
    circulant = (index[:, None] - index[None, :]) % n_shadows < times
    n_blocks = -(-n_examples // n_shadows)
    blocks = [circulant[random.permutation(n_shadows)] for _ in range(n_blocks)]
    matrix = np.concatenate(blocks, axis=1)[:, :n_examples]
    return np.ascontiguousarray(matrix[:, random.permutation(n_examples)])


def coin_flips(
    n_examples: int, seed: int, groups: NDArray[np.int64] | None = None
) -> NDArray[np.bool_]:
    """Draw whether each example is a member of the target, by a fair coin of its own; those of one person share a coin.

    What is known of the others then says nothing of an example, so that a mechanism's trade-off curve for one image
    bounds what any score tells of it (`guarantee(..., changes=1)`). That needs a target that does not depend on how many
    coins fell on one side: whatever follows from the number of members is computed from a constant, such as n_examples / 2.

    >>> drawn = coin_flips(6, seed=0, groups=np.array([7, 7, 3, 3, 3, 5]))
    >>> bool(drawn[0] == drawn[1]), bool((drawn[2:5] == drawn[2]).all())
    (True, True)
    """
    random = np.random.default_rng(seed)
    if groups is None:
        return random.random(n_examples) < 0.5
    people, group_of = np.unique(groups, return_inverse=True)
    return (random.random(len(people)) < 0.5)[group_of]


def _by_group(
    groups: NDArray[np.int64], n_shadows: int, times: int, random: np.random.Generator
) -> NDArray[np.bool_]:
    """Draw a balanced matrix bool (S, N) in which the columns of a group are equal."""
    _, group_of, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    index = np.arange(n_shadows)
    circulant = (index[:, None] - index[None, :]) % n_shadows < times
    # Blocks of S groups from the largest to the smallest, in chance order among equals: within a block the sizes are nearly
    # the same. The row of a block with the most images goes to the shadow with the fewest so far, so that the differences
    # of the blocks do not add up.
    order = random.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    images = np.zeros(n_shadows, np.int64)
    patterns = np.zeros((n_shadows, len(sizes)), dtype=bool)
    for start in range(0, len(order), n_shadows):
        chosen = order[start : start + n_shadows]
        block = circulant[random.permutation(n_shadows)][:, random.permutation(n_shadows)]
        block = block[:, : len(chosen)]
        added = block @ sizes[chosen]
        chance = random.random((2, n_shadows))
        fewest, most = np.lexsort((chance[0], images)), np.lexsort((chance[1], -added))
        patterns[fewest[:, None], chosen[None, :]] = block[most]
        images[fewest] += added[most]
    # Which pattern a group has is a uniform draw whatever its size.
    return np.ascontiguousarray(patterns[random.permutation(n_shadows)][:, group_of])


def fingerprint(membership: NDArray[np.bool_]) -> str:
    """First 16 hexadecimal digits of the SHA-256 of shape and entries."""
    shape = "x".join(map(str, membership.shape)).encode()
    return hashlib.sha256(shape + np.packbits(membership).tobytes()).hexdigest()[:16]
