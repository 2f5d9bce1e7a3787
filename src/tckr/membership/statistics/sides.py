"""Scores taken apart into those of members and of non-members, and checked on the way."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tckr.errors import UserError


class Side(NamedTuple):
    """Scores of one side in ascending order, and the cluster of each, numbered from 0."""

    scores: NDArray[np.float64]
    clusters: NDArray[np.intp]


def split(
    scores: ArrayLike, is_member: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores of the members and of the non-members, in the order given.

    Raises:
        UserError: shapes that differ, NaN scores, or members or non-members missing.
    """
    values, inside = checked(scores, is_member)
    return values[inside], values[~inside]


def split_clusters(
    scores: ArrayLike, is_member: ArrayLike, clusters: ArrayLike
) -> tuple[Side, Side, int]:
    """As `split`, sorted, with the cluster of each score; and the number of clusters.

    Raises:
        UserError: as `split`; clusters that do not fit, or fewer than two.
    """
    values, inside = checked(scores, is_member)
    names = np.asarray(clusters)
    if names.shape != values.shape or not np.issubdtype(names.dtype, np.integer):
        raise UserError(
            f"Clusters {names.shape} of type {names.dtype} do not fit scores {values.shape}.",
            "give one whole number a score: the example it belongs to.",
        )
    distinct, numbers = np.unique(names, return_inverse=True)
    if len(distinct) < 2:
        raise UserError(
            "All scores are of one example, which says nothing about the others.",
            "give the scores of several examples.",
        )
    order = np.argsort(values, kind="stable")
    members, others = order[inside[order]], order[~inside[order]]
    return (
        Side(values[members], numbers[members]),
        Side(values[others], numbers[others]),
        len(distinct),
    )


def checked(
    scores: ArrayLike, is_member: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores float64 (N,) and membership bool (N,); raises as `split`."""
    values, inside = np.asarray(scores, dtype=np.float64), np.asarray(is_member, dtype=bool)
    if values.shape != inside.shape or values.ndim != 1:
        raise UserError(
            f"Scores {values.shape} and membership {inside.shape} do not fit.",
            "give one score and one flag an example.",
        )
    if np.isnan(values).any():
        raise UserError("A score is NaN.", "check the attack: NaN has no place in a ranking.")
    if inside.all() or not inside.any():
        raise UserError(
            f"There are {inside.sum()} members and {(~inside).sum()} non-members.",
            "give both: the holdout provides the non-members.",
        )
    return values, inside
