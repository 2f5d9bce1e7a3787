"""Stratified, seeded splits with exact totals."""

from collections.abc import Mapping

import numpy as np

from tckr.errors import UserError

SPLITS = ("members", "holdout", "validation", "test")


def apportion(total: int, available: np.ndarray) -> np.ndarray:
    """Distribute `total` seats among classes in proportion to their sizes (largest remainder).

    Args:
        total: Seats, at most the sum of `available`.
        available: int (C,), the number of examples that each class has left.

    Returns:
        int64 (C,), sums to `total`, nowhere above `available`; ties go to the earlier class.

    Raises:
        ValueError: `total` is negative or exceeds the sum of `available`.

    >>> apportion(5, np.array([10, 10, 30])).tolist()
    [1, 1, 3]
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
    """Draw disjoint splits at random, each with the class proportions of the whole.

    Args:
        labels: int (N,), class of each example. The draw depends on their order: sort the examples by content first
            if the order of files should not matter.
        totals: Examples wanted in each split, in the order in which they are drawn.
        seed: Seed of the draw.

    Returns:
        str (N,), the split of each example, "" for those left over.

    >>> labels = np.array([0, 1] * 10)
    >>> splits = stratified(labels, {"test": 4, "members": 10}, seed=0)
    >>> labels[splits == "test"].mean(), (splits == "").sum()
    (np.float64(0.5), np.int64(6))
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
    """Return the number of test images: from the source's own test split if it has one, else from the pool.

    Args:
        share: a count, a fraction, or None for the whole own test split or 20 % of the pool.
        n_own: images in the source's own test split.
        n_pool: all others.

    Raises:
        UserError: There are fewer images than that.

    >>> resolve_test(None, 0, 100), resolve_test(0.5, 40, 100), resolve_test(7, 40, 100)
    (20, 20, 7)
    """
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
    members: int | float | None,
    holdout: int | float | None,
    validation: int | float,
    n_pool: int,
    n_own: int = 0,
) -> dict[str, int]:
    """Return the numbers of validation, members and holdout images in a pool of `n_pool`, beside `n_own` test images.

    If neither `members` nor `holdout` is given, each gets half of what validation leaves; if one of them is missing, it
    gets as many as the other, or as many as are left.

    Raises:
        UserError: They do not fit into the pool.

    >>> resolve_pool(members=None, holdout=None, validation=0.1, n_pool=100)
    {'validation': 10, 'members': 45, 'holdout': 45}
    """
    given = {"validation": validation, "members": members, "holdout": holdout}
    totals, reached = {}, 0.0
    for split, share in given.items():
        if isinstance(share, float):
            # Rounding the running sum keeps fractions that add up to 1 from requesting one image too many.
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
        beside, unless = "", ""
        if n_own:
            beside = f" beside the {n_own} of the source's own test split"
            unless = "; if these are no test images, rename the file, folder or column that calls them so"
        raise UserError(
            f"The splits need {wanted} images (and at least one for each split), but only {n_pool} are there{beside}.",
            f"lower ingestion.members, holdout or validation, or give them as fractions such as 0.4{unless}.",
        )
    return totals
