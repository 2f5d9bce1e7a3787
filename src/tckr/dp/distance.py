"""How far populations of prompts are from the private set: as noisy votes see it, at no cost, or truly, for a study.

The energy distance (Szekely and Rizzo 2013, eq. 2.5) of two weighted sets of points is 0 if and only if they are alike.
Populations are all candidates of the first iteration, then what was kept of every one.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from tckr.dp.evolution import Generation, Voters

BLOCK = 2048  # rows of a matrix of distances at a time


def vote_distances(generations: "Sequence[Generation]", sigma: float) -> list[float]:
    """Return the distance of each population to the private set as the last noisy votes see it; the mean over classes.

    The shares of the votes, at the features of the candidates of the last iteration, stand for the private images of a class:
    post-processing, which costs nothing. What the noise adds on average is taken off again. Private images that no
    candidate is near to are seen as if they were at the nearest one, and the last population is judged by the votes that
    chose it.

    Args:
        generations: of `tckr.dp.evolution.evolve`.
        sigma: standard deviation of the noise of a count.

    Returns:
        One more than iterations, in units of the features; NaN where no class stands out of the noise.
    """
    found = []
    last = generations[-1]
    for label, own in enumerate(last.votes):
        total, each = int(own.sum()), len(own)
        if total <= 2 * sigma * each**0.5:
            continue
        places = last.of_class(label).double()
        shares = torch.from_numpy(own / total)
        # Of noise e in each count the shares change by (e - mean of e) / total, which adds sigma^2 sum_jk |c_j - c_k| / (m total^2).
        added = (sigma / total) ** 2 * each * float(_mean_distance(places, places))
        distances = energy_distances(places, _populations(generations, label), shares)
        found.append([distance - added for distance in distances])
    count = len(generations) + 1
    return np.mean(found, axis=0).tolist() if found else [float("nan")] * count


def true_distances(voters: "Voters", generations: "Sequence[Generation]") -> list[float]:
    """Return the distance of each population to the private images, WITHOUT noise: for a study, which is not released."""
    found = []
    labels = voters.labels.to(voters.features.device)
    for label in range(len(generations[-1].votes)):
        own = voters.features[labels == label].double()
        if len(own):
            found.append(energy_distances(own, _populations(generations, label)))
    return np.mean(found, axis=0).tolist()


def energy_distances(
    points: Tensor, others: Sequence[Tensor], weights: Tensor | None = None
) -> list[float]:
    """Return 2 E|x - y| - E|x - x'| - E|y - y'| for x of the points and y of each of the others.

    Args:
        points: double (N, D), on the device where to compute.
        others: double (M, D) each.
        weights: double (N,) of the points, which sum to 1 and may be negative; all alike unless given.

    >>> line = torch.tensor([[0.0], [2.0]], dtype=torch.float64)
    >>> energy_distances(line, [line, line[:1]])
    [0.0, 1.0]
    """
    within = _mean_distance(points, points, weights, weights)
    found = []
    for other in others:
        there = other.to(points)
        between = _mean_distance(points, there, weights)
        found.append(float(2 * between - within - _mean_distance(there, there)))
    return found


def _mean_distance(
    first: Tensor, second: Tensor, ours: Tensor | None = None, theirs: Tensor | None = None
) -> Tensor:
    ours = first.new_full((len(first),), 1 / len(first)) if ours is None else ours.to(first)
    theirs = (
        second.new_full((len(second),), 1 / len(second)) if theirs is None else theirs.to(first)
    )
    total = first.new_zeros(())
    for part, weight in zip(first.split(BLOCK), ours.split(BLOCK), strict=True):
        total += weight @ (torch.cdist(part, second) @ theirs)
    return total


def _populations(generations: "Sequence[Generation]", label: int) -> list[Tensor]:
    kept = [made.of_class(label)[torch.from_numpy(made.kept[label])] for made in generations]
    return [each.double() for each in (generations[0].of_class(label), *kept)]
