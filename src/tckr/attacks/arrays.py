"""Validation and per-example moments of the score arrays, shared by all attacks."""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tckr.errors import UserError

Variance = Literal["per_example", "global"]
Floats = NDArray[np.float64]

# A smaller variance is rounding error, and dividing by it would amplify noise.
SMALLEST_VARIANCE = 1e-12


class ScoreArrays(NamedTuple):
    """Checked scores with a query axis.

    Attributes:
        target_scores: (N, Q).
        shadow_scores: (S, N, Q).
        membership: bool (S, N, 1), so that it broadcasts over the queries.
    """

    target_scores: Floats
    shadow_scores: Floats
    membership: NDArray[np.bool_]


class Moments(NamedTuple):
    """Moments of each example's selected shadow scores.

    Attributes:
        n: int (N, 1), number of selected scores.
        mean: (N, Q).
        sum_of_squares: (N, Q), squared deviations from the mean, summed.
    """

    n: NDArray[np.int64]
    mean: Floats
    sum_of_squares: Floats


def check_scores(
    target_scores: ArrayLike, shadow_scores: ArrayLike, membership: ArrayLike
) -> ScoreArrays:
    """Check that the arrays belong together and give each a query axis.

    Args:
        target_scores: (N,), or (N, Q).
        shadow_scores: (S, N), or (S, N, Q).
        membership: bool (S, N).

    Raises:
        UserError: NaN scores, or shapes that do not fit.
    """
    target = finite("target", target_scores)
    shadow = finite("shadow", shadow_scores)
    member = np.asarray(membership, dtype=bool)
    shapes_fit = shadow.shape[1:] == target.shape and member.shape == shadow.shape[:2]
    if target.ndim not in (1, 2) or not shapes_fit:
        raise UserError(
            f"Attack arrays do not fit: target scores {target.shape}, shadow scores {shadow.shape},"
            f" membership {member.shape}.",
            "give (N,), (S, N) and (S, N) of the same examples, or (N, Q), (S, N, Q) and (S, N).",
        )
    queries = check_target_scores(target)
    return ScoreArrays(queries, shadow.reshape(len(shadow), *queries.shape), member[:, :, None])


def check_target_scores(target_scores: ArrayLike) -> Floats:
    """Return the target scores as (N, Q), where (N,) is one query.

    Raises:
        UserError: NaN scores, or neither (N,) nor (N, Q).
    """
    array = finite("target", target_scores)
    if array.ndim not in (1, 2) or array.size == 0:
        raise UserError(
            f"Target scores have shape {array.shape}.", "give (N,), or (N, Q) for Q queries."
        )
    return array.reshape(len(array), -1)


def finite(name: str, values: ArrayLike) -> Floats:
    """Copy `values` as float64.

    Raises:
        UserError: a value is NaN or infinite.
    """
    array = np.array(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise UserError(
            f"{np.count_nonzero(~np.isfinite(array))} {name} scores are NaN or infinite.",
            "check that the models trained: such a score cannot be ranked.",
        )
    return array


def moments(shadow_scores: Floats, selected: NDArray[np.bool_], purpose: str = "mean") -> Moments:
    """Compute the moments of each example's selected shadow scores.

    Args:
        shadow_scores: (S, N, Q).
        selected: bool (S, N, 1), the shadows that count for each example.
        purpose: what the moments are for: a "mean", a "global" or a "per_example" variance.

    Raises:
        UserError: an example has too few selected scores for that purpose.
    """
    count = selected.sum(0)
    fewest = int(count.min())
    some_variance = count.sum() > len(count)
    if fewest < (2 if purpose == "per_example" else 1) or (purpose != "mean" and not some_variance):
        raise UserError(
            f"An example has {fewest} shadow scores of one kind: too few for a {purpose}"
            f"{'' if purpose == 'mean' else ' variance'}.",
            "use more shadows, with every example in half of them.",
        )
    mean = np.where(selected, shadow_scores, 0).sum(0) / count
    deviations = np.where(selected, (shadow_scores - mean) ** 2, 0)
    return Moments(count, mean, deviations.sum(0))
