"""The count of reproduced members is exact: its distribution, its coverage, what it finds and what it lets pass."""

from itertools import combinations

import numpy as np
import pytest

from tckr.errors import UserError
from tckr.metrics import extraction


def test_the_probability_is_that_of_all_orders() -> None:
    """Of 4 members and 5 others in a random order: the share of the 126 orders with as many members in front."""
    n, allowed = 9, 1
    counts = []
    for places in combinations(range(n), 4):
        others = np.setdiff1d(np.arange(n), places)
        counts.append(int((np.array(places) < others[allowed]).sum()))
    for k in range(5):
        # k members in front, then the second of the others, then the rest
        order = np.array([0] + [1] * k + [0] + [0] * 3 + [1] * (4 - k), dtype=bool)
        found = extraction(-np.arange(n), order, allowed)
        assert found.near_members == k
        assert found.near_others == 1
        assert found.p_value == pytest.approx(np.mean(np.array(counts) >= k))
    assert found.chance == pytest.approx(np.mean(counts))


@pytest.mark.parametrize("allowed", [0, 5])
@pytest.mark.parametrize("copied", [0, 4, 25])
def test_the_interval_covers(allowed: int, copied: int) -> None:
    """At 95 % the bound passes the true number in 5 % of releases at most, and in a good part of that."""
    n, draws = 500, 400
    inside, random = np.arange(2 * n) < n, np.random.default_rng(allowed + copied)
    passed = powerful = 0
    for _ in range(draws):
        nearness = random.normal(size=2 * n)
        nearness[:copied] += 50
        found = extraction(nearness, inside, allowed)
        passed += found.at_least > copied
        powerful += found.at_least > 0
    assert passed / draws <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / draws)
    assert passed / draws >= 0.01
    if copied == 25:
        assert powerful == draws


def test_no_more_than_what_is_needed_is_called_a_find() -> None:
    inside = np.arange(200) < 100
    nearness = np.where(inside, 1.0, 0.0) * (np.arange(200) < 5)
    nearness -= np.arange(200) / 1000 * (nearness == 0)
    nearness[100] = 0.5  # one of the others: nearer than every other member
    found = extraction(nearness, inside, 0)
    assert (found.near_members, found.needed) == (5, 5)
    assert found.at_least >= 1
    fewer = extraction(np.where(np.arange(200) == 4, -1.0, nearness), inside, 0)
    assert (fewer.near_members, fewer.at_least) == (4, 0)


def test_ties_are_no_copies() -> None:
    """A release that is a copy of members and others alike gives nobody away."""
    found = extraction(np.ones(40), np.arange(40) < 20, 3)
    assert (found.near_members, found.near_others, found.at_least) == (0, 0, 0)


def test_people_are_counted_once() -> None:
    """A person with twenty images that are all copied is one find, not twenty."""
    random = np.random.default_rng(0)
    nearness, inside = random.normal(size=400), np.arange(400) < 200
    nearness[:20] = 9.0
    people = np.maximum(np.arange(400) - 19, 0)
    assert extraction(nearness, inside, 0).at_least > 10
    found = extraction(nearness, inside, 0, clusters=people)
    assert found.n_members == 181
    assert found.at_least == 0
    assert found.near[:20].all()


def test_what_cannot_be_counted_is_refused() -> None:
    inside = np.arange(4) < 2
    with pytest.raises(UserError, match="NaN"):
        extraction([0.0, np.nan, 1.0, 2.0], inside, 0)
    with pytest.raises(UserError, match="2 may be near"):
        extraction(np.arange(4), inside, 2)
    with pytest.raises(UserError, match="0 members"):
        extraction(np.arange(4), np.zeros(4, dtype=bool), 0)
