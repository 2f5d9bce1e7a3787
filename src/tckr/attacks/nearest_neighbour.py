"""What a release alone discloses: are its examples nearer to members than to non-members?

No model is queried and no shadow trained. The same scores serve released images (features of an image encoder) and
released prompts (TF-IDF).
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, issparse

from tckr.errors import UserError

# Smaller distances count as equal: features have a length of about 1, in float32.
SMALLEST_DISTANCE = 1e-6
PART = 4096  # rows whose distances are computed at once
BLOCK = 1 << 25  # numbers of released or candidate rows that are compared at once: 128 MiB


class PixelRows:
    """Images as features: values in [0, 1] over the square root of how many, so that distances are about 1, as of embeddings.

    They are converted block by block where they are read: as numbers, a set of images need not fit into memory.

    >>> rows = PixelRows(np.full((3, 1, 2, 2), 255, dtype=np.uint8))
    >>> rows.shape, rows.only(np.array([2]))[:].tolist()
    ((3, 4), [[0.5, 0.5, 0.5, 0.5]])
    """

    def __init__(self, images: NDArray[np.uint8], rows: NDArray[np.int64] | None = None) -> None:
        """Take the images, uint8 (N, ...), and which of them are meant; None: all."""
        self.images = images
        self.rows = np.arange(len(images)) if rows is None else rows
        self.shape = (len(self.rows), int(np.prod(images.shape[1:])))

    def only(self, rows: NDArray[np.int64]) -> "PixelRows":
        """Return some of the rows; nothing is copied."""
        return PixelRows(self.images, self.rows[rows])

    def __getitem__(self, block: slice) -> NDArray[np.float32]:
        """Return a block of rows as numbers."""
        numbers = self.images[self.rows[block]].astype(np.float32).reshape(-1, self.shape[1])
        numbers /= np.float32(255 * np.sqrt(self.shape[1]))
        return numbers


Features: TypeAlias = NDArray[np.float32] | csr_matrix | PixelRows


def proximity(
    candidates: Features, released: Features, reference: Features, k: int = 1
) -> dict[str, NDArray[Any]]:
    """Score how near the release comes to each candidate; larger = more likely a member.

    `nearest` is the distance to closest record. `density_ratio` is DOMIAS (van Breugel et al., AISTATS 2023,
    arXiv 2302.12580) with k-nearest-neighbour densities: an example that lies where everything lies is no evidence, one
    that only the release comes near is.

    Args:
        candidates: float32 (N, D), members and holdout; an array, sparse rows, or images (`PixelRows`).
        released: float32 (M, D).
        reference: float32 (R, D), of the distribution of the candidates, but neither members nor holdout (the
            validation split).
        k: which neighbour measures a density, 1 to min(M, R).

    Returns:
        `nearest` and `density_ratio`, float64 (N,), and `nearest_index`, int64 (N,), into `released`. Neighbours are
        exact; equal examples are at distance 0.

    Raises:
        UserError: fewer than k released or reference examples, widths that differ, or NaN.

    The release holds a copy of the first candidate, and nothing near the second:

    >>> candidates = np.array([[0.0, 1.0], [1.0, 0.0]], dtype=np.float32)
    >>> released = np.array([[0.0, 1.0], [0.6, 0.8]], dtype=np.float32)
    >>> reference = np.array([[0.8, 0.6], [0.6, 0.8]], dtype=np.float32)
    >>> found = proximity(candidates, released, reference)
    >>> (-found["nearest"]).round(2).tolist(), found["nearest_index"].tolist()
    ([0.0, 0.89], [0, 1])
    >>> bool(found["density_ratio"][0] > found["density_ratio"][1])
    True
    """
    candidates, released, reference = map(_check_features, (candidates, released, reference))
    widths = [part.shape[1] for part in (candidates, released, reference)]
    if len(set(widths)) > 1:
        raise UserError(
            f"Features of widths {widths[0]}, {widths[1]} and {widths[2]} do not compare.",
            "compute all of them with one encoder.",
        )
    if not 1 <= k <= min(released.shape[0], reference.shape[0]):
        raise UserError(
            f"There is no neighbour {k} among {released.shape[0]} released and {reference.shape[0]} reference examples.",
            "use a smaller k, or more examples.",
        )
    to_released, indices = _neighbours(candidates, released, k)
    to_reference, _ = _neighbours(candidates, reference, k)
    # DOMIAS, eq. 2: p_released(x) / p_reference(x), with densities ~ 1 / distance^D to the k-th neighbour; its log, up
    # to the factor D and a constant: log d_k(reference) - log d_k(released).
    log_reference, log_released = (
        np.log(np.maximum(distances[:, -1], SMALLEST_DISTANCE))
        for distances in (to_reference, to_released)
    )
    return {
        "nearest": -to_released[:, 0],
        "density_ratio": log_reference - log_released,
        "nearest_index": indices[:, 0],
    }


def proximity_within(
    candidates: Features,
    released: Features,
    reference: Features,
    classes: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    k: int = 1,
) -> dict[str, NDArray[Any]]:
    """Score as `proximity` does, each candidate against released and reference examples of its own class.

    Args:
        candidates: float32 (N, D).
        released: float32 (M, D).
        reference: float32 (R, D).
        classes: of the three, int64 (N,), (M,) and (R,). A class with fewer than k released or reference examples is
            compared with those of all classes.
        k: as for `proximity`.

    >>> candidates = np.array([[0.0], [1.0]], dtype=np.float32)
    >>> classes = (np.array([0, 1]), np.array([1, 0]), np.array([0, 1]))
    >>> found = proximity_within(candidates, candidates[:], candidates + np.float32(0.5), classes)
    >>> found["nearest_index"].tolist(), (-found["nearest"]).tolist()
    ([1, 0], [1.0, 1.0])
    """
    own, of_released, of_reference = classes
    whole: dict[str, NDArray[Any]] = {
        "nearest": np.empty(len(own)),
        "density_ratio": np.empty(len(own)),
        "nearest_index": np.empty(len(own), dtype=np.int64),
    }
    for label in np.unique(own):
        rows = np.flatnonzero(own == label)
        near, others = (
            side if len(side := np.flatnonzero(of == label)) >= k else np.arange(len(of))
            for of in (of_released, of_reference)
        )
        found = proximity(
            _only(candidates, rows), _only(released, near), _only(reference, others), k
        )
        whole["nearest"][rows], whole["density_ratio"][rows] = (
            found["nearest"],
            found["density_ratio"],
        )
        whole["nearest_index"][rows] = near[found["nearest_index"]]
    return whole


def closest_pairs(
    found: dict[str, NDArray[Any]], count: int, among: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """Return the candidates that the release gives away most, each with its nearest released example.

    Ranked by `density_ratio`, so that dull images, which lie near to everything, do not crowd the list.

    Args:
        found: result of `proximity`.
        count: pairs at most.
        among: bool (N,), which candidates to list: the members, or for comparison the holdout. None: all.

    Returns:
        int64 (at most count, 2): index of the candidate, index of the released example; most exposed first.

    >>> found = {"density_ratio": np.array([0.1, 2.0, 0.5]), "nearest_index": np.array([7, 8, 9])}
    >>> closest_pairs(found, 2).tolist()
    [[1, 8], [2, 9]]
    """
    ratio = found["density_ratio"]
    listed = np.arange(len(ratio)) if among is None else np.flatnonzero(among)
    first = listed[np.argsort(-ratio[listed], kind="stable")[:count]]
    return np.stack([first, found["nearest_index"][first]], axis=1)


def prompt_disclosure(
    candidates: Sequence[str], released: Sequence[str], reference: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """Score how near the released prompts come to each candidate's own; larger = more likely a member.

    Args:
        candidates: N prompts (`"{class}: {caption}"`), of members and holdout.
        released: M prompts.
        reference: R prompts of images that are neither members nor holdout.

    Returns:
        `nearest`, `density_ratio` and `nearest_index` as in `proximity`, of `prompt_features`; and `exact`, float64
        (N,): 0 if the candidate's prompt is not among the released ones, else the larger the rarer it is.

    Raises:
        UserError: no prompts of a kind.

    >>> found = prompt_disclosure(["a red bag", "a boot"], ["a red bag"], ["a boot", "a coat"])
    >>> found["exact"].round(2).tolist()
    [1.1, 0.0]
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
    # Ours: log((R + 1) / (c + 1)) with c the prompt's count among the R reference prompts. A prompt that many images
    # share says little, one never seen elsewhere says most.
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
    """Return TF-IDF of words and pairs of neighbouring words, rows of length 1, sparse float32.

    Vocabulary and weights come from the released and reference prompts, which an outsider has; never from who is a
    member.

    >>> features, _, _ = prompt_features(["red bag", "blue bag"], ["red bag"], ["blue boot"])
    >>> features.shape
    (2, 6)
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = r"\b\w+\b"  # of one letter too: a class may be called "3"
    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, token_pattern=words, dtype=np.float32
    )
    vectorizer.fit([*released, *reference])
    return tuple(vectorizer.transform(texts) for texts in (candidates, released, reference))


def _check_features(features: Features) -> Features:
    if isinstance(features, PixelRows):
        return features
    if issparse(features):
        return csr_matrix(features, dtype=np.float32)
    array = np.ascontiguousarray(features, dtype=np.float32)
    if array.ndim != 2 or not np.isfinite(array).all():
        raise UserError(
            f"Features {array.shape} are not a finite table.",
            "give one row of numbers per example.",
        )
    return array


def _only(features: Features, rows: NDArray[np.int64]) -> Features:
    return features.only(rows) if isinstance(features, PixelRows) else features[rows]


def _neighbours(
    rows: Features, points: Features, k: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return distances to, and indices of, the k points nearest to each row, nearest first; (N, k) each."""
    distances = np.full((rows.shape[0], k), np.inf)
    indices = np.zeros((rows.shape[0], k), dtype=np.int64)
    for own in _blocks(rows):
        of_own = rows[own]
        for block in _blocks(points):
            found, places = _nearest(of_own, points[block], k)
            # The nearest of all blocks so far; those of an earlier block come first where distances are equal.
            both = np.hstack([distances[own], found])
            nearest = np.argsort(both, axis=1, kind="stable")[:, :k]
            distances[own] = np.take_along_axis(both, nearest, 1)
            where = np.hstack([indices[own], places + block.start])
            indices[own] = np.take_along_axis(where, nearest, 1)
    return distances, indices


def _blocks(features: Features) -> list[slice]:
    """Return parts of at most `BLOCK` numbers; sparse rows, which hold few, are one part."""
    count, width = features.shape
    size = count if issparse(features) else max(1, BLOCK // max(1, width))
    return [slice(start, start + size) for start in range(0, count, max(1, size))]


def _nearest(
    rows: NDArray[np.float32] | csr_matrix, points: NDArray[np.float32] | csr_matrix, k: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the same of one block of points, which may be fewer than k."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(algorithm="brute").fit(points)
    indices = search.kneighbors(rows, min(k, points.shape[0]), False)
    # The search uses inner products, which leave a rounding error between equal rows: differences do not.
    distances = np.stack([_distance(rows, points, column) for column in indices.T], axis=1)
    order = np.argsort(distances, axis=1, kind="stable")
    return np.take_along_axis(distances, order, 1), np.take_along_axis(indices, order, 1)


def _distance(
    rows: NDArray[np.float32] | csr_matrix,
    points: NDArray[np.float32] | csr_matrix,
    indices: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return the distance of each row to its own point, `points[indices]`; no further copy of all features is made."""
    parts = [np.zeros(0)]
    size = min(PART, max(1, BLOCK // 4 // max(1, rows.shape[1])))
    for start in range(0, len(indices), size):
        part = slice(start, start + size)
        difference = rows[part] - points[indices[part]]
        squares = (
            difference.multiply(difference) if isinstance(difference, csr_matrix) else difference**2
        )
        parts.append(np.sqrt(np.asarray(squares.sum(1, dtype=np.float64)).ravel()))
    return np.concatenate(parts)
