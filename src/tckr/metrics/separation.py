"""One cut between members and non-members, chosen on one half of the scores and counted on the other.

What the counts bound holds at any confidence that is asked of them later, so that many attacks can be corrected for.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from tckr.errors import UserError
from tckr.metrics.epsilon import count_beyond, thin
from tckr.metrics.estimate import clopper_pearson, split

# Confidence at which cuts are compared on the first half: about that of one of 50 attacks, together at 99.9 %.
CHOOSING = 0.99998


@dataclass(frozen=True)
class Separation:
    """How often the test "beyond the cut" is right and wrong, on scores that did not choose the cut.

    Attributes:
        hits: scores beyond the cut on the side that the test is for.
        of: scores on that side.
        false: scores beyond the cut on the other side.
        among: scores on the other side.
        finds_members: whether the test is for members, or for non-members.
        above: whether beyond is at or above the cut, or below it; an attack may be the wrong way round.
    """

    hits: int
    of: int
    false: int
    among: int
    finds_members: bool
    above: bool

    def ends(self, confidence: float) -> tuple[float, float]:
        """Return the smallest true-positive and the largest false-positive rate that the counts allow, together.

        >>> low, high = Separation(hits=90, of=100, false=5, among=100, finds_members=True, above=True).ends(0.95)
        >>> round(low, 3), round(high, 3)
        (0.824, 0.113)
        """
        return (
            clopper_pearson(self.hits, self.of, confidence)[0],
            clopper_pearson(self.false, self.among, confidence)[1],
        )


def separation(scores: ArrayLike, is_member: ArrayLike, seed: int = 0) -> Separation:
    """Choose the cut, and the direction, that tell the two sides apart best, on one half; count on the other.

    The best is the one with the largest Phi^-1(TPR) - Phi^-1(FPR): the mu of the Gaussian mechanism whose best test has
    these rates (Dong, Roth and Su, arXiv 1905.02383; Nasr et al., arXiv 2302.07956, audit with it), both rates bounded.

    Args:
        scores: (N,), larger = more likely a member.
        is_member: bool (N,).
        seed: of the halves.

    Raises:
        UserError: NaN scores, or fewer than 2 members or non-members.

    >>> random, is_member = np.random.default_rng(0), np.arange(4000) < 2000
    >>> found = separation(random.normal(size=4000) + 3 * is_member, is_member)
    >>> found.of, found.hits > 800, found.false < 200
    (1000, True, True)
    """
    sides = split(scores, is_member)
    if min(map(len, sides)) < 2:
        raise UserError("A cut needs 2 members and 2 non-members.", "add examples.")
    random = np.random.default_rng(seed)
    members, non_members = (random.permutation(side) for side in sides)
    choose = members[: len(members) // 2], non_members[: len(non_members) // 2]
    test = members[len(members) // 2 :], non_members[len(non_members) // 2 :]
    cuts = thin(np.unique(np.concatenate(choose)))
    found = {
        (finds_members, above): _mus(choose if finds_members else choose[::-1], cuts, above)
        for finds_members in (True, False)
        for above in (True, False)
    }
    finds_members, above = max(found, key=lambda test: float(found[test].max()))
    best = cuts[[int(np.argmax(found[finds_members, above]))]]
    hits, of, false, among = count_beyond(test if finds_members else test[::-1], best, not above)
    return Separation(int(hits[0]), of, int(false[0]), among, finds_members, above)


def _mus(
    pair: tuple[NDArray[np.float64], ...], cuts: NDArray[np.float64], above: bool
) -> NDArray[np.float64]:
    """Compute the lower bound of mu at every cut; minus infinity where nothing is found."""
    from scipy.stats import beta

    hits, m, false, n = count_beyond(pair, cuts, not above)
    tail = (1 - CHOOSING) / 2
    low = np.where(hits > 0, beta.ppf(tail, np.maximum(hits, 1), m - hits + 1), 0.0)
    high = np.where(false < n, beta.ppf(1 - tail, false + 1, np.maximum(n - false, 1)), 1.0)
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(ndtri(low) - ndtri(high), nan=-np.inf, neginf=-np.inf)
