"""What every attack does with its arrays: check them, give them a query axis, take moments."""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tckr.errors import UserError

Variance = Literal["per_example", "global"]
Floats = NDArray[np.float64]

# Below this a spread is rounding, and a division by it would be noise.
SMALLEST_VARIANCE = 1e-12


class Arrays(NamedTuple):
    """Checked arrays with a query axis: target (N, Q), shadow (S, N, Q), inside bool (S, N, 1)."""

    target: Floats
    shadow: Floats
    inside: NDArray[np.bool_]


class Moments(NamedTuple):
    """Of the chosen scores of each example: number (N, 1), mean and sum of squares about it (N, Q)."""

    number: NDArray[np.int64]
    mean: Floats
    squares: Floats


def finite(name: str, values: ArrayLike) -> Floats:
    """Copy as float64.

    Raises:
        UserError: a value is NaN or infinite.
    """
    array = np.array(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise UserError(
            f"{np.count_nonzero(~np.isfinite(array))} {name} scores are NaN or infinite.",
            "check that the models trained: such a score has no place in a ranking.",
        )
    return array


def by_query(target: ArrayLike) -> Floats:
    """Scores of the target as (N, Q); (N,) is one query.

    Raises:
        UserError: NaN scores, or neither (N,) nor (N, Q).
    """
    array = finite("target", target)
    if array.ndim not in (1, 2) or array.size == 0:
        raise UserError(
            f"Target scores have shape {array.shape}.", "give (N,), or (N, Q) for Q queries."
        )
    return array.reshape(len(array), -1)


def checked(target: ArrayLike, shadow: ArrayLike, membership: ArrayLike) -> Arrays:
    """Check that the arrays are of the same examples and queries.

    Args:
        target: (N,), or (N, Q).
        shadow: (S, N), or (S, N, Q).
        membership: (S, N).

    Raises:
        UserError: NaN scores, or shapes that do not fit.
    """
    one, many = finite("target", target), finite("shadow", shadow)
    inside = np.asarray(membership, dtype=bool)
    if one.ndim not in (1, 2) or many.shape[1:] != one.shape or inside.shape != many.shape[:2]:
        raise UserError(
            f"Attack arrays do not fit: target {one.shape}, shadow {many.shape}, membership"
            f" {inside.shape}.",
            "give (N,), (S, N) and (S, N) of the same examples, or (N, Q), (S, N, Q) and (S, N).",
        )
    queries = by_query(one)
    return Arrays(queries, many.reshape(len(many), *queries.shape), inside[:, :, None])


def moments(scores: Floats, chosen: NDArray[np.bool_], kind: str = "mean") -> Moments:
    """Moments of the chosen scores (S, N, Q) of each example; `chosen` is (S, N, 1).

    Args:
        scores: of the shadows.
        chosen: which of them count.
        kind: what is wanted: a "mean", a "global" or a "per_example" variance.

    Raises:
        UserError: too few scores of an example for that.
    """
    count = chosen.sum(0)
    fewest = int(count.min())
    pooled = count.sum() > len(count)
    if fewest < (2 if kind == "per_example" else 1) or (kind != "mean" and not pooled):
        raise UserError(
            f"An example has {fewest} shadow scores of one kind: too few for a {kind}"
            f"{'' if kind == 'mean' else ' variance'}.",
            "use more shadows, with every example in half of them.",
        )
    mean = np.where(chosen, scores, 0).sum(0) / count
    return Moments(count, mean, np.where(chosen, (scores - mean) ** 2, 0).sum(0))
