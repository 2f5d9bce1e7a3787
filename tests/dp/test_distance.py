"""Distances of populations: closed forms, and noise that does not move them on average."""

import math

import numpy as np
import pytest
import torch

from tckr.dp.distance import energy_distances, true_distances, vote_distances
from tckr.dp.evolution import Generation, Voters


def generation(votes: list[list[int]], features: torch.Tensor, kept: list[list[int]]) -> Generation:
    prompts = tuple(tuple(map(str, range(len(own)))) for own in votes)
    return Generation(prompts, np.array(votes), np.array(kept), features)


def test_the_energy_distance_is_that_of_scipy_in_one_dimension() -> None:
    from scipy.stats import energy_distance as of_scipy

    draw = np.random.default_rng(0)
    ours, theirs = draw.normal(size=20), draw.normal(1, 2, size=30)
    weights = draw.dirichlet(np.ones(20))
    (found,) = energy_distances(
        torch.from_numpy(ours)[:, None],
        [torch.from_numpy(theirs)[:, None]],
        torch.from_numpy(weights),
    )
    assert found == pytest.approx(of_scipy(ours, theirs, weights) ** 2)


def test_without_noise_it_is_zero_where_the_votes_fall_as_the_population_lies() -> None:
    line = torch.tensor([[0.0], [1.0]])
    even, uneven = generation([[5, 5]], line, [[0, 1]]), generation([[10, 0]], line, [[0, 1]])
    assert vote_distances([even], 0.0) == pytest.approx([0, 0])
    assert vote_distances([uneven], 0.0) == pytest.approx([0.5, 0.5])
    assert vote_distances([generation([[10, 0]], line, [[0]])], 0.0) == pytest.approx([0.5, 0])


def test_noise_does_not_move_the_distance_on_average() -> None:
    draw, sigma = np.random.default_rng(1), 8.0
    features = torch.from_numpy(draw.normal(size=(2 * 12, 3)))
    votes = draw.integers(0, 60, (2, 12))
    kept = np.argsort(-votes, 1)[:, :4].tolist()
    exact = vote_distances([generation(votes.tolist(), features, kept)], 0.0)
    noisy = [
        vote_distances(
            [
                generation(
                    (votes + np.rint(draw.normal(0, sigma, votes.shape))).astype(int).tolist(),
                    features,
                    kept,
                )
            ],
            sigma,
        )
        for _ in range(600)
    ]
    spread = np.std(noisy, axis=0) / math.sqrt(600)
    assert (np.abs(np.mean(noisy, axis=0) - exact) < 4 * spread + 2e-3).all()


def test_a_set_in_which_no_class_stands_out_of_the_noise_has_no_distance() -> None:
    line = torch.tensor([[0.0], [1.0]])
    assert np.isnan(vote_distances([generation([[3, 2]], line, [[0]])], sigma=10.0)).all()


def test_the_true_distance_looks_at_the_private_images() -> None:
    line = torch.tensor([[0.0], [4.0]])
    voters = Voters(torch.tensor([[4.0], [4.0]]), torch.tensor([0, 0]))
    assert true_distances(voters, [generation([[0, 2]], line, [[1]])]) == pytest.approx([2, 0])
