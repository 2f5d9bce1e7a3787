"""Nearest candidates in blocks, as a search one by one finds them, and votes of images and of owners on neighbouring sets."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from charged import charged
from tckr.dp import Noise, check_sensitivity, noisy_votes, recording, votes_plan
from tckr.dp.evolution import Voter
from tckr.dp.voting import Nearest, ballots, nearest, nearest_of_class

POINTS = st.floats(-50, 50, width=32)


@settings(deadline=None, max_examples=40)
@given(
    arrays(np.float32, (7, 3), elements=POINTS),
    arrays(np.float32, (5, 3), elements=POINTS),
    st.sampled_from([1, 2, 3, 64]),
)
def test_blocks_find_what_a_search_one_by_one_finds(voters, candidates, block: int) -> None:
    found = nearest(torch.from_numpy(voters), torch.from_numpy(candidates), block)
    exact = np.linalg.norm(voters[:, None].astype(float) - candidates[None], axis=2)
    np.testing.assert_allclose(found.distance.numpy(), exact.min(1), atol=0.05)
    chosen = np.take_along_axis(exact, found.place.numpy()[:, None], 1)[:, 0]
    np.testing.assert_allclose(
        chosen, exact.min(1), atol=0.05
    )  # of equals within rounding either will do


def test_the_first_of_equals_wins_whatever_the_blocks() -> None:
    voters, candidates = torch.zeros(3, 2), torch.tensor([[1.0, 0], [0, 1.0], [-1.0, 0]])
    for block in (1, 2, 8):
        assert nearest(voters, candidates, block).place.tolist() == [0, 0, 0]


def test_features_that_are_no_numbers_vote_for_nothing_and_get_no_votes() -> None:
    nan = float("nan")
    found = nearest(
        torch.tensor([[nan, 0.0], [0.0, 0.0]]),
        torch.tensor([[nan, 0.0], [5.0, 0.0], [float("inf"), 0.0]]),
    )
    assert found.place.tolist() == [-1, 1]
    assert ballots(found).tolist() == [[-1], [1]]


def test_images_vote_within_their_class() -> None:
    candidates = torch.tensor([[0.0], [1.0], [0.0], [9.0]])  # two of each class
    found = nearest_of_class(
        torch.tensor([[0.9], [0.9], [8.0]]), torch.tensor([0, 1, 1]), candidates, 2
    )
    assert found.place.tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="classes must lie"):
        nearest_of_class(torch.zeros(1, 1), torch.tensor([2]), candidates, 2)
    with pytest.raises(ValueError, match="equally many"):
        nearest_of_class(torch.zeros(1, 1), torch.tensor([0]), candidates[:3], 2)


def histogram(voters: np.ndarray, labels: np.ndarray, owners: np.ndarray | None = None):
    candidates = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    found = nearest_of_class(torch.from_numpy(voters), torch.from_numpy(labels), candidates, 3)
    per: Voter = "image" if owners is None else "owner"
    entry = charged(votes_plan(1, 1, per=per), noise_multiplier=2)
    return noisy_votes(found, 12, entry, Noise(seed=0), owners)


@settings(deadline=None, max_examples=40)
@given(
    arrays(np.float32, (8, 4), elements=POINTS),
    arrays(np.int64, 8, elements=st.integers(0, 2)),
    st.integers(0, 7),
)
def test_one_image_moves_the_votes_by_one(voters, labels, left_out: int) -> None:
    with recording() as first:
        histogram(voters, labels)
    with recording(replay=first) as second:
        histogram(np.delete(voters, left_out, 0), np.delete(labels, left_out))
    assert check_sensitivity(first, second) == {"votes": 1.0}


@settings(deadline=None, max_examples=40)
@given(
    arrays(np.float32, (8, 4), elements=POINTS),
    arrays(np.int64, 8, elements=st.integers(0, 2)),
    arrays(np.int64, 8, elements=st.integers(0, 3)),
)
def test_all_images_of_one_owner_together_move_the_votes_by_one(voters, labels, owners) -> None:
    gone = owners == owners[0]
    with recording() as first:
        histogram(voters, labels, owners)
    with recording(replay=first) as second:
        histogram(voters[~gone], labels[~gone], owners[~gone])
    assert check_sensitivity(first, second) == {"votes": 1.0}
    assert first[0].statistic.sum() == len(np.unique(owners))


@settings(deadline=None, max_examples=60)
@given(
    arrays(np.float32, (8, 4), elements=POINTS),
    arrays(np.int64, 8, elements=st.integers(0, 2)),
    arrays(np.int64, 8, elements=st.integers(0, 3)),
    st.integers(0, 7),
)
def test_one_image_moves_the_vote_of_its_owner_at_most(
    voters, labels, owners, left_out: int
) -> None:
    with recording() as first:
        histogram(voters, labels, owners)
    with recording(replay=first) as second:
        histogram(*(np.delete(each, left_out, 0) for each in (voters, labels, owners)))
    moved = check_sensitivity(first, second)["votes"]
    assert min(abs(moved - allowed) for allowed in (0, 1, 2**0.5)) < 1e-12
    alone = (owners == owners[left_out]).sum() == 1
    assert not alone or moved == 1.0


def test_the_sensitivity_of_votes_of_owners_is_attained_and_less_is_refused() -> None:
    found = Nearest(torch.tensor([5, 3]), torch.tensor([0.1, 0.2]))
    fewer, owners = Nearest(found.place[1:], found.distance[1:]), np.array([7, 7])
    entry = charged(votes_plan(1, 1, per="owner"), noise_multiplier=2)
    with recording() as first:
        noisy_votes(found, 6, entry, Noise(seed=0), owners)
    with recording(replay=first) as second:
        noisy_votes(fewer, 6, entry, Noise(seed=0), owners[1:])
    assert first[0].statistic.tolist() == [0, 0, 0, 0, 0, 1]
    assert second[0].statistic.tolist() == [0, 0, 0, 1, 0, 0]
    assert check_sensitivity(first, second) == {"votes": pytest.approx(2**0.5)}

    of_images = charged(votes_plan(1, 1), noise_multiplier=2)
    with pytest.raises(ValueError, match="'votes' declares that one image changes one count"):
        noisy_votes(found, 6, of_images, Noise(seed=0), owners)
    with pytest.raises(ValueError, match="2 images have 1 owners"):
        noisy_votes(found, 6, entry, Noise(seed=0), owners[1:])


def test_an_owner_whose_images_are_no_numbers_votes_for_nothing() -> None:
    infinite = float("inf")
    found = Nearest(torch.tensor([-1, 4, -1]), torch.tensor([infinite, 0.3, infinite]))
    assert ballots(found, np.array([1, 1, 2])).tolist() == [[4], [-1]]


def test_the_order_of_images_changes_no_vote() -> None:
    """Of equally near images of an owner the first candidate counts, not the first image."""
    draw = np.random.default_rng(0)
    place, owners = draw.integers(0, 5, 30), draw.integers(0, 9, 30)
    found = Nearest(torch.from_numpy(place), torch.ones(30))
    order = draw.permutation(30)
    again = Nearest(found.place[order], found.distance[order])
    assert ballots(found, owners).tolist() == ballots(again, owners[order]).tolist()
