"""Near-duplicates: images that differ by compression, size, brightness or a flip, found by their 16 x 16 thumbnails."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

EDGE = 16
CORRELATION = 0.995
"""Of two thumbnails; compressing, resizing or brightening a photograph leaves more, two photographs have less."""
FLAT = 3.0
"""Standard deviation in grey levels below which a thumbnail shows nothing to compare."""
FREQUENCIES = 5
NEIGHBOURS = 6
CHUNK = 16_384
EXAMPLES = 20


def twins(thumbnails: Sequence[bytes]) -> NDArray[np.int64]:
    """Return the pairs of images that are nearly the same, also turned or mirrored.

    An image of many twins is paired with its six nearest in each of the eight orientations.

    Args:
        thumbnails: 256 grey levels of each image; see `tckr.images.prepare.thumbnail`.

    Returns:
        int64 (n, 2), each pair once, the smaller index first, sorted.

    >>> rng = np.random.default_rng(0)
    >>> picture = rng.integers(0, 256, (3, 16, 16), dtype=np.uint8)
    >>> twins([picture[0].tobytes(), picture[1].tobytes(), picture[0][:, ::-1].tobytes()]).tolist()
    [[0, 2]]
    """
    from scipy.spatial import KDTree

    grey = np.frombuffer(b"".join(thumbnails), np.uint8).reshape(-1, EDGE, EDGE)
    rows = np.flatnonzero([spread >= FLAT for part in _chunks(grey) for spread in _spread(part)])
    if len(rows) < 2:
        return np.zeros((0, 2), np.int64)
    grey = grey[rows]
    axes = _smooth_axes()
    points = np.concatenate([_unit(part) @ axes for part in _chunks(grey)])
    # A projection shortens distances, so that in smooth images no pair is missed. Noise has little of its contrast in low
    # frequencies, and so has the difference of a pair: the full radius would hold half of a set of noise.
    smooth = float(np.sqrt(np.square(points).sum(1).mean()))
    radius = float(np.sqrt(2 * (1 - CORRELATION))) * min(1.0, 2 * smooth)
    tree = KDTree(points)
    found: set[tuple[int, int]] = set()
    for turn in range(8):
        for start in range(0, len(grey), CHUNK):
            part = _turned(grey[start : start + CHUNK], turn)
            near = tree.query(_unit(part) @ axes, k=NEIGHBOURS, distance_upper_bound=radius)[1]
            first, place = np.nonzero(near < len(grey))
            second = near[first, place]
            other = first + start != second
            first, second = first[other], second[other]
            same = np.einsum("nd,nd->n", _unit(part[first]), _unit(grey[second])) >= CORRELATION
            pairs = np.sort(np.stack([rows[first[same] + start], rows[second[same]]], 1), axis=1)
            found.update(map(tuple, pairs.tolist()))
    return np.array(sorted(found), np.int64).reshape(-1, 2)


def handled(table: pd.DataFrame, how: Literal["keep", "drop"]) -> tuple[pd.DataFrame, int]:
    """Leave out near-duplicates if that is wanted, those of the test split last; return how many were left out.

    Args:
        table: Sorted by image_id, with split ("pool" or "test") and thumbnail.
        how: `ingestion.near_duplicates`.
    """
    if how == "keep":
        return table, 0
    pairs = twins(table["thumbnail"].tolist())
    dropped = to_drop(pairs, (table["split"] == "test").to_numpy())
    return table[~dropped].reset_index(drop=True), int(dropped.sum())


def across_splits(table: pd.DataFrame, dropped: int) -> dict[str, Any]:
    """Count the near-duplicates that lie in different splits, for the ingestion report.

    Args:
        table: With image_id, split and thumbnail, after the splits are drawn.
        dropped: How many were left out before.
    """
    splits, ids = table["split"].to_numpy(), table["image_id"].to_numpy()
    pairs = twins(table["thumbnail"].tolist())
    apart = pairs[splits[pairs[:, 0]] != splits[pairs[:, 1]]]
    touched = np.unique(apart)
    counts = pd.Series(splits[touched]).value_counts()
    return {
        "dropped": dropped,
        "pairs": len(pairs),
        "pairs_across_splits": len(apart),
        "images_across_splits": {
            split: int(counts.get(split, 0))
            for split in ("members", "holdout", "validation", "test")
        },
        "examples": [[str(ids[one]), str(ids[other])] for one, other in apart[:EXAMPLES]],
    }


def to_drop(pairs: NDArray[np.int64], first: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which images to leave out so that no pair is left.

    Args:
        pairs: Of `twins`.
        first: bool (N,), images to keep rather than others (those of the test split); then the smaller index is kept.

    >>> to_drop(np.array([[0, 1], [1, 2]]), np.array([False, True, False])).tolist()
    [True, False, True]
    """
    partners: dict[int, list[int]] = {}
    for one, other in pairs.tolist():
        partners.setdefault(one, []).append(other)
        partners.setdefault(other, []).append(one)
    dropped = np.zeros(len(first), bool)
    kept: set[int] = set()
    for image in sorted(partners, key=lambda one: (not first[one], one)):
        if kept.isdisjoint(partners[image]):
            kept.add(image)
        else:
            dropped[image] = True
    return dropped


def _chunks(grey: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    for start in range(0, len(grey), CHUNK):
        yield grey[start : start + CHUNK]


def _spread(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    return grey.reshape(len(grey), EDGE * EDGE).astype(np.float32).std(1)


def _unit(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return thumbnails as vectors of mean 0 and length 1, whose product is the correlation."""
    flat = grey.reshape(len(grey), EDGE * EDGE).astype(np.float32)
    flat -= flat.mean(1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def _smooth_axes() -> NDArray[np.float32]:
    """Return the lowest frequencies of the cosine transform, (256, 14): a tree is quick in few dimensions."""
    waves = np.cos(np.pi * np.outer(np.arange(FREQUENCIES), np.arange(EDGE) + 0.5) / EDGE)
    waves /= np.linalg.norm(waves, axis=1, keepdims=True)
    pairs = [
        np.outer(waves[down], waves[right]).ravel()
        for down in range(FREQUENCIES)
        for right in range(FREQUENCIES - down)
        if down + right > 0  # a thumbnail's mean is 0
    ]
    return np.stack(pairs, 1).astype(np.float32)


def _turned(grey: NDArray[np.uint8], turn: int) -> NDArray[np.uint8]:
    turned = np.rot90(grey, turn % 4, axes=(1, 2))
    return turned[:, :, ::-1] if turn >= 4 else turned
