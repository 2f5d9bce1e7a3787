"""What can be refused before any image is read."""

from collections import Counter
from pathlib import Path

import numpy as np

from tckr.errors import UserError
from tckr.images import split
from tckr.images.labels import class_names
from tckr.images.options import IngestionOptions
from tckr.images.raw import RawTable

LARGE = 1000
"""Images that take no time to read; their faults are told after that, all together."""


def refuse_small_classes(raw: RawTable, options: IngestionOptions, path: Path) -> None:
    """Refuse a source of which one class is too small for its share of every split, by the labels alone.

    Only large sources that list their labels (folders, CSV) are looked at. Up to half of each larger class may turn out to be
    copies or broken, which would leave the small ones a larger share.

    Raises:
        UserError: A class would be missing from a split, or there are fewer than two classes.
    """
    if not isinstance(raw.images, list) or raw.count < LARGE:
        return
    counts = Counter((image.split, image.label) for image in raw.images if image.label is not None)
    labels = sorted({str(label) for _, label in counts})
    if not labels:
        return
    class_names(labels, raw.class_names, options.class_names, str(path))
    own = np.array([counts["test", label] for label in labels])
    pool = np.array([counts["pool", label] for label in labels])
    try:
        shares = _shares(_halved(own), _halved(pool), options)
    except UserError:  # too few images in all: known for certain only when they are read
        return
    for name, share in shares.items():
        for label, own_share, size in zip(labels, share, own + pool, strict=True):
            if own_share == 0:
                raise UserError(
                    f"Class {label!r} of {path} has {size:,} of {raw.count:,} images, too few for its share of every split "
                    f"({name} would get none).",
                    f"add images of that class, leave it out, or raise ingestion.{name}.",
                )


def _halved(counts: np.ndarray) -> np.ndarray:
    smallest = counts[counts > 0].min(initial=counts.max(initial=0))
    return np.where(counts > 2 * smallest, -(-counts // 2), counts)


def _shares(own: np.ndarray, pool: np.ndarray, options: IngestionOptions) -> dict[str, np.ndarray]:
    """Return the images of each class in each split; see `tckr.images.split`."""
    n_test = split.resolve_test(options.test, int(own.sum()), int(pool.sum()))
    shares = {"test": split.apportion(n_test, own if own.any() else pool)}
    left = pool if own.any() else pool - shares["test"]
    totals = split.resolve_pool(
        options.members, options.holdout, options.validation, int(left.sum()), int(own.sum())
    )
    for name, total in totals.items():
        shares[name] = split.apportion(total, left)
        left = left - shares[name]
    return shares
