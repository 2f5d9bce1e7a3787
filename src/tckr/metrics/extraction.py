"""How many members a release comes nearer to than chance allows: an exact count of reproduced examples.

An example is extracted if something released lies within a distance of it (Carlini et al., USENIX Security 2023,
arXiv 2301.13188, definition 1). What such a distance is nobody knows beforehand; the non-members say it. They were drawn like the
members and played no part in the release, so that whatever lies near to them lies there by chance.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import hypergeom

from tckr.errors import UserError


class Extracted(NamedTuple):
    """Members nearer to the release than a fixed number of the non-members, and how many of these are no chance.

    Attributes:
        near_members: members within the distance.
        n_members: members.
        near_others: non-members within it; at most those that were allowed, fewer only where distances are equal.
        n_others: non-members.
        chance: members within it that are expected if the release reproduces none.
        p_value: probability of as many members or more, if it reproduces none.
        at_least: lower end of the one-sided interval of the number of reproduced members.
        needed: smallest `near_members` with which `at_least` is positive.
        confidence: of that interval.
        near: bool (N,), which examples lie within the distance.
    """

    near_members: int
    n_members: int
    near_others: int
    n_others: int
    chance: float
    p_value: float
    at_least: int
    needed: int
    confidence: float
    near: np.ndarray


def extraction(
    nearness: ArrayLike,
    is_member: ArrayLike,
    allowed: int,
    confidence: float = 0.95,
    clusters: ArrayLike | None = None,
) -> Extracted:
    """Count the members that lie nearer to the release than all but `allowed` of the non-members.

    If the release reproduces nobody, members and non-members are exchangeable, and the number of members that come before
    the non-member of rank `allowed` + 1 has the negative hypergeometric distribution, whatever distance is and however images
    depend on one another through the release. If it reproduces e members, the others still are: `at_least` is the smallest e
    under which so many members are not improbable, exact as Clopper and Pearson's interval is. Ties count as not near.

    Args:
        nearness: float (N,), larger = something released is nearer.
        is_member: bool (N,).
        allowed: non-members that may be within the distance, fixed beforehand; 0: nearer than every one of them.
        confidence: of the one-sided interval.
        clusters: int (N,), the person behind each example: then people are counted, each by their nearest example.

    Raises:
        UserError: NaN, shapes that do not fit, no member, or not more than `allowed` non-members.

    Ten of a thousand members are copied; all else lies where chance puts it:

    >>> random, is_member = np.random.default_rng(0), np.arange(2000) < 1000
    >>> nearness = random.normal(size=2000)
    >>> nearness[:10] = 9.0
    >>> found = extraction(nearness, is_member, allowed=0)
    >>> found.near_members, found.near_others, found.at_least, found.needed
    (11, 0, 7, 5)
    >>> extraction(random.normal(size=2000), is_member, allowed=0).at_least
    0
    """
    values, member = np.asarray(nearness, dtype=np.float64), np.asarray(is_member, dtype=bool)
    if values.ndim != 1 or member.shape != values.shape or not np.isfinite(values).all():
        raise UserError(
            f"Nearness {values.shape} and membership {member.shape} do not fit, or one is NaN.",
            "give one finite number and one bool per example.",
        )
    person = np.arange(len(values))
    if clusters is not None:
        person = np.unique(np.asarray(clusters), return_inverse=True)[1]
    nearest = np.full(person.max(initial=-1) + 1, -np.inf)
    np.maximum.at(nearest, person, values)
    inside = np.zeros(len(nearest), dtype=bool)
    inside[person[member]] = True
    n_members, n_others = int(inside.sum()), int((~inside).sum())
    if not n_members or not 0 <= allowed < n_others:
        raise UserError(
            f"There are {n_members} members and {n_others} others, of which {allowed} may be near.",
            "give a member, and more others than may be near.",
        )
    distance = np.sort(nearest[~inside])[::-1][allowed]
    near = nearest > distance
    count, alpha = int(near[inside].sum()), 1 - confidence

    def as_many(near_members: int, reproduced: int) -> float:
        """P(at least so many members are near | so many are reproduced)."""
        more = near_members - reproduced
        others = n_members - reproduced
        if more <= 0 or more > others:
            return float(more <= 0)
        # The first more + allowed of a random order hold `allowed` non-members at most.
        drawn = more + allowed
        return float(hypergeom.cdf(allowed, others + n_others, n_others, drawn))

    def first(low: int, high: int, reached: int, *, reproduced: int | None = None) -> int:
        """Return the first e in (low, high] whose probability passes alpha, or the first count that no longer does."""
        while high - low > 1:
            middle = (low + high) // 2
            if reproduced is None:
                passed = as_many(reached, middle) > alpha
            else:
                passed = as_many(middle, reproduced) <= alpha
            low, high = (low, middle) if passed else (middle, high)
        return high

    return Extracted(
        near_members=count,
        n_members=n_members,
        near_others=int(near[~inside].sum()),
        n_others=n_others,
        chance=(allowed + 1) * n_members / (n_others + 1),
        p_value=as_many(count, 0),
        at_least=first(-1, count, count) if count else 0,
        needed=first(0, n_members + 1, 0, reproduced=0),
        confidence=confidence,
        near=near[person],
    )
