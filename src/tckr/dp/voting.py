"""Votes of private images for candidates: each names the one nearest to it (L2), or each owner names one for all of his.

Private Evolution's nearest-neighbour histogram (Lin et al. 2024, arXiv 2305.15560, algorithm 2). What private images are like
is computed once and stays on the device; candidates come in blocks, so that time is linear in images and in candidates, and
memory holds one block of distances, whatever the number of either.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Images and candidates whose distances are computed at a time: 64 MiB of them.
BLOCK = 4096


class Nearest(NamedTuple):
    """The candidate nearest to each private image.

    Attributes:
        place: int64 (N,), its number, -1 where there is none: features that are no numbers.
        distance: float32 (N,), L2; infinite where there is none.
    """

    place: Tensor
    distance: Tensor


def nearest(voters: Tensor, candidates: Tensor, block: int = BLOCK) -> Nearest:
    """Return the candidate nearest to each voter in L2 norm, the first of equals.

    Each voter is compared in a block of the same size, filled up with zeros, so that its distances do not depend on who
    else votes.

    Args:
        voters: float (N, D), on the device where to search.
        candidates: float (M, D), on the same device; one that is not finite is never the nearest.
        block: voters and candidates at a time; memory grows with its square.

    >>> nearest(torch.tensor([[0.0, 1.0], [3.0, 0.0]]), torch.tensor([[0.0, 0.0], [4.0, 0.0]])).place.tolist()
    [0, 1]
    """
    index = torch.full((len(voters),), -1, dtype=torch.int64, device=voters.device)
    squares = torch.full((len(voters),), torch.inf, device=voters.device)
    for start in range(0, len(voters), block):
        some = _filled(voters[start : start + block], block)
        rows = slice(start, min(start + block, len(voters)))
        count = rows.stop - rows.start
        for first in range(0, len(candidates), block):
            part = candidates[first : first + block]
            # |x - c|^2 = |x|^2 - 2 x.c + |c|^2
            distances = torch.addmm((part**2).sum(1)[None], some, part.T, beta=1, alpha=-2) + (
                some**2
            ).sum(1, keepdim=True)
            distances = distances[:count].nan_to_num(torch.inf, torch.inf, torch.inf)
            least, place = distances.min(1)
            closer = least < squares[rows]
            squares[rows] = torch.where(closer, least, squares[rows])
            index[rows] = torch.where(closer, place + first, index[rows])
    return Nearest(index, squares.clamp(min=0).sqrt())


def nearest_of_class(
    voters: Tensor, labels: Tensor, candidates: Tensor, n_classes: int, block: int = BLOCK
) -> Nearest:
    """Return the candidate of its own class that is nearest to each voter.

    Args:
        voters: float (N, D).
        labels: int64 (N,), their classes.
        candidates: float (n_classes * m, D), m a class, class by class.
        n_classes: classes in all, as the owner names them.
        block: as for `nearest`.

    Returns:
        Indices into `candidates`.

    Raises:
        ValueError: labels out of range, or candidates that are not equally many a class.
    """
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < n_classes:
        raise ValueError(f"classes must lie in 0..{n_classes - 1}")
    each, rest = divmod(len(candidates), n_classes)
    if rest or not each:
        raise ValueError(
            f"{len(candidates)} candidates are not equally many of {n_classes} classes"
        )
    index = torch.full((len(voters),), -1, dtype=torch.int64, device=voters.device)
    distance = torch.full((len(voters),), torch.inf, device=voters.device)
    where = labels.to(voters.device)
    for label in range(n_classes):
        own = (where == label).nonzero()[:, 0]
        found = nearest(voters[own], candidates[label * each : (label + 1) * each], block)
        index[own] = torch.where(found.place >= 0, found.place + label * each, found.place)
        distance[own] = found.distance
    return Nearest(index, distance)


def ballots(found: Nearest, owners: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Return what each voter votes for, int64 (voters, 1), -1 for nothing: cells of `noisy_histogram`.

    How far the histogram moves, where whose an image is does not depend on which others there are. Write it as the sum of
    one term a voter: the unit vector e_c of its cell c, or 0. A term depends on the voter's own images alone.

    - Votes of images: one image comes or goes with its term, L2 norm 1.
    - Votes of owners: **one image** that comes or goes changes its owner's term, and no other. It goes from e_c to e_d, if
      it was the one that named c and the next nearest names d, or from e_c to 0, if it was the owner's only one. So the
      L2 norm is sqrt(2) at most, two counts by 1 each, and two images that name different cells attain it. Whatever rule
      picks an owner's one cell attains it: alone, those images vote e_c and e_d; together they vote for one cell, which
      is sqrt(2) from one of the two.
    - Votes of owners: **one owner** who comes or goes with all of his images takes one term along, L2 norm 1. With votes of
      images he would take one of each image, as many as he has.

    Args:
        found: of the private images.
        owners: int64 (N,), whose each image is: an owner then has one vote, that of the image which is nearest to any
            candidate, of equally near ones for the first candidate. Without: each image votes.

    Raises:
        ValueError: owners of another number of images.

    >>> found = Nearest(torch.tensor([5, 3, 4]), torch.tensor([0.2, 0.1, 0.9]))
    >>> ballots(found).tolist(), ballots(found, np.array([7, 7, 8])).tolist()
    ([[5], [3], [4]], [[3], [4]])
    """
    index = found.place.cpu().numpy()
    if owners is None:
        return index[:, None]
    if len(owners) != len(index):
        raise ValueError(f"{len(index):,} images have {len(owners):,} owners")
    order = np.lexsort((index, found.distance.cpu().numpy(), owners))
    first = np.unique(np.asarray(owners)[order], return_index=True)[1]
    return index[order][first][:, None]


def _filled(rows: Tensor, count: int) -> Tensor:
    return torch.nn.functional.pad(rows, (0, 0, 0, count - len(rows)))
