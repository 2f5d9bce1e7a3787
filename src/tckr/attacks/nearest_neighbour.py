"""What the release alone discloses: are its examples nearer to members than to others of the same distribution?

No model is asked and no shadow trained. The same scores serve released images (features of an image encoder) and
released prompts (TF-IDF).
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, issparse
from torch import Tensor

from tckr.errors import UserError

# Two distances below this are the same: features have length 1 or so, in float32.
SMALLEST_DISTANCE = 1e-6

Features: TypeAlias = NDArray[np.float32] | Tensor | csr_matrix


def proximity(
    candidates: Features, released: Features, reference: Features, k: int = 1
) -> dict[str, NDArray[Any]]:
    """How near the release comes to each candidate; larger = more likely a member.

    `nearest`: minus the Euclidean distance to the nearest released example (distance to closest record).
    `density_ratio`: log distance to the k-th nearest reference example, less log distance to the k-th nearest released
    one. Up to a factor D and a constant that is the log ratio of the two k-nearest-neighbour densities, the score of
    DOMIAS (van Breugel et al., AISTATS 2023, arXiv 2302.12580): an example that lies where everything lies
    is no evidence, one that only the release comes near is.

    Args:
        candidates: float32 (N, D), members and holdout.
        released: (M, D).
        reference: (R, D), of the distribution of the candidates, but neither members nor holdout (the validation split).
        k: which neighbour measures a density.

    All three may be arrays, tensors or sparse rows. Neighbours are exact and found in blocks; equal examples are at
    distance 0.

    Returns:
        `nearest` and `density_ratio`, float64 (N,), and `nearest_index`, int64 (N,), into `released`.

    Raises:
        UserError: fewer than k released or reference examples, widths that differ, or NaN.
    """
    rows, out, known = (_matrix(part) for part in (candidates, released, reference))
    if len({part.shape[1] for part in (rows, out, known)}) > 1:
        raise UserError(
            f"Features of widths {rows.shape[1]}, {out.shape[1]} and {known.shape[1]} do not compare.",
            "compute all of them with one encoder.",
        )
    if not 1 <= k <= min(out.shape[0], known.shape[0]):
        raise UserError(
            f"There is no neighbour {k} among {out.shape[0]} released and {known.shape[0]} reference examples.",
            "take a smaller k, or more examples.",
        )
    distances, indices = _neighbours(rows, out, k)
    usual = _neighbours(rows, known, k)[0][:, -1]
    logs = [np.log(np.maximum(part, SMALLEST_DISTANCE)) for part in (usual, distances[:, -1])]
    return {
        "nearest": -distances[:, 0],
        "density_ratio": logs[0] - logs[1],
        "nearest_index": indices[:, 0],
    }


def closest_pairs(
    found: dict[str, NDArray[Any]], count: int, among: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """The candidates that the release gives away most, each with its nearest released example.

    Ranked by `density_ratio`, so that dull images, which lie near to everything, do not crowd the list.

    Args:
        found: of `proximity`.
        count: pairs at most.
        among: (N,), which candidates to list: the members, say, or for comparison the holdout. None takes all.

    Returns:
        (at most count, 2): index of the candidate, index of the released example; nearest first.
    """
    ratio = found["density_ratio"]
    listed = np.arange(len(ratio)) if among is None else np.flatnonzero(among)
    first = listed[np.argsort(-ratio[listed], kind="stable")[:count]]
    return np.stack([first, found["nearest_index"][first]], axis=1)


def prompt_disclosure(
    candidates: Sequence[str], released: Sequence[str], reference: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """How near the released prompts come to each candidate's own; larger = more likely a member.

    `nearest`, `density_ratio` and `nearest_index` as in `proximity`, of `prompt_features`. `exact` is 0 where the
    candidate's prompt is not among the released ones, else log((R + 1) / (c + 1)) with c its count among the R
    reference prompts: a prompt that many images share says little, one never seen elsewhere says most.

    Args:
        candidates: N prompts (`"{class}: {caption}"`), members' and holdout's.
        released: M prompts.
        reference: R prompts of images that are neither members nor holdout.

    Raises:
        UserError: no prompts of a kind.
    """
    for name, texts in (
        ("candidate", candidates),
        ("released", released),
        ("reference", reference),
    ):
        if not len(texts):
            raise UserError(f"There are no {name} prompts.", "give at least one.")
    distinct = list(dict.fromkeys(released))
    found = proximity(*prompt_features(candidates, distinct, reference))
    first = {text: index for index, text in reversed(list(enumerate(released)))}
    places = np.array([first[text] for text in distinct])
    counts, size = Counter(reference), len(reference)
    rarity = [
        np.log((size + 1) / (counts[text] + 1)) if text in first else 0.0 for text in candidates
    ]
    return {
        **found,
        "nearest_index": places[found["nearest_index"]],
        "exact": np.array(rarity, dtype=np.float64),
    }


def prompt_features(
    candidates: Sequence[str], released: Sequence[str], reference: Sequence[str]
) -> tuple[csr_matrix, csr_matrix, csr_matrix]:
    """TF-IDF of words and pairs of neighbouring words, rows of length 1, sparse float32.

    Vocabulary and weights come from the released and reference prompts, which an outsider has; never from who is a
    member.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = r"\b\w+\b"  # of one letter too: a class may be called "3"
    reader = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, token_pattern=words, dtype=np.float32
    )
    reader.fit([*released, *reference])
    return tuple(reader.transform(texts) for texts in (candidates, released, reference))


def _matrix(features: Features) -> NDArray[np.float32] | csr_matrix:
    if issparse(features):
        return csr_matrix(features, dtype=np.float32)
    dense = features.detach().cpu().numpy() if isinstance(features, Tensor) else features
    array = np.ascontiguousarray(dense, dtype=np.float32)
    if array.ndim != 2 or not np.isfinite(array).all():
        raise UserError(
            f"Features {array.shape} are not a finite table.", "give one row of numbers an example."
        )
    return array


def _neighbours(
    rows: NDArray[np.float32] | csr_matrix, points: NDArray[np.float32] | csr_matrix, k: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Distances and indices (N, k) of the k nearest points, nearest first."""
    from sklearn.neighbors import NearestNeighbors

    indices = NearestNeighbors(algorithm="brute").fit(points).kneighbors(rows, k, False)
    # The search works with products, which leave a rounding error between equal rows: differences do not.
    distances = np.stack([_distance(rows, points[column]) for column in indices.T], axis=1)
    order = np.argsort(distances, axis=1, kind="stable")
    return np.take_along_axis(distances, order, 1), np.take_along_axis(indices, order, 1)


def _distance(
    left: NDArray[np.float32] | csr_matrix, right: NDArray[np.float32] | csr_matrix
) -> NDArray[np.float64]:
    difference = left - right
    squares = (
        difference.multiply(difference) if isinstance(difference, csr_matrix) else difference**2
    )
    return np.sqrt(np.asarray(squares.sum(1, dtype=np.float64)).ravel())
