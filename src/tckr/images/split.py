"""Stratified, seeded splits with exact totals."""

from collections.abc import Mapping

import numpy as np

from tckr.errors import UserError

SPLITS = ("members", "holdout", "validation", "test")


def apportion(total: int, available: np.ndarray) -> np.ndarray:
    """Share `total` seats among classes in proportion to what each has (largest remainder).

    Args:
        total: Seats, at most the sum of `available`.
        available: int (C,), what each class has left.

    Returns:
        int64 (C,), sums to `total`, nowhere above `available`; ties go to the earlier class.
    """
    available = np.asarray(available, dtype=np.int64)
    everything = int(available.sum())
    if not 0 <= total <= everything:
        raise ValueError(f"Cannot share {total} among {everything}.")
    if total == 0:
        return np.zeros_like(available)
    # Integers throughout: a rounding error must not move a seat.
    seats, remainder = np.divmod(total * available, everything)
    order = np.argsort(-remainder, kind="stable")
    seats[order[: total - int(seats.sum())]] += 1
    return seats


def stratified(labels: np.ndarray, totals: Mapping[str, int], seed: int) -> np.ndarray:
    """Draw disjoint splits, each with the class mix of the whole.

    Args:
        labels: int (N,), class of each example. Their order matters to the draw: sort the examples by content
            beforehand where the order of files must not.
        totals: Examples wanted in each split, in the order in which they are drawn.
        seed: Seed of the draw.

    Returns:
        str (N,), the split of each example, "" for those left over.
    """
    classes, counts = np.unique(labels, return_counts=True)
    left = counts.astype(np.int64)
    shares = {}
    for split, total in totals.items():
        shares[split] = apportion(total, left)
        left = left - shares[split]
    splits = np.full(len(labels), "", dtype=object)
    for index, value in enumerate(classes):
        shuffled = np.random.default_rng([seed, index]).permutation(np.flatnonzero(labels == value))
        start = 0
        for split in totals:
            end = start + int(shares[split][index])
            splits[shuffled[start:end]] = split
            start = end
    return splits


def resolve_test(share: int | float | None, n_own: int, n_pool: int) -> int:
    """Number of test images: of the source's own test split if it has one, else of the pool."""
    if share is None:
        return n_own or round(0.2 * n_pool)
    available = n_own or n_pool
    count = share if isinstance(share, int) else round(share * available)
    if count > available:
        raise UserError(
            f"ingestion.test asks for {count} images, but only {available} are there for it.",
            "lower ingestion.test, or give it as a fraction such as 0.2.",
        )
    return count


def resolve_pool(
    members: int | float | None, holdout: int | float | None, validation: int | float, n_pool: int
) -> dict[str, int]:
    """Numbers of validation, members and holdout images out of a pool of `n_pool`.

    Without `members` and `holdout` each gets half of what validation leaves; without one of them it gets as many
    as the other, as far as the images go.

    Raises:
        UserError: They do not fit into the pool.
    """
    given = {"validation": validation, "members": members, "holdout": holdout}
    totals, reached = {}, 0.0
    for split, share in given.items():
        if isinstance(share, float):
            # Rounding the running sum keeps fractions that add up to 1 from asking for one image too many.
            totals[split] = round((reached + share) * n_pool) - round(reached * n_pool)
            reached += share
        elif share is not None:
            totals[split] = share
    rest = n_pool - sum(totals.values())
    if members is None and holdout is None:
        totals |= {"members": (rest + 1) // 2, "holdout": rest // 2}
    elif holdout is None:
        totals["holdout"] = min(totals["members"], rest)
    elif members is None:
        totals["members"] = min(totals["holdout"], rest)
    if rest < 0 or min(totals.values()) < 1:
        wanted = " + ".join(
            f"{totals[split]} {split}" for split, share in given.items() if share is not None
        )
        raise UserError(
            f"The splits need {wanted} images (and at least one for each split), but only {n_pool} are there.",
            "lower ingestion.members, holdout or validation, or give them as fractions such as 0.4.",
        )
    return totals
