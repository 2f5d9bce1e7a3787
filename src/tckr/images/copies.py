"""Exact copies: one image per content, whatever the files are called and in whatever order they come."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tckr.errors import UserError
from tckr.images.prepare import Prepared

MOST_CONFLICTING = 0.1
"""Share of images with several labels from which the source is taken for one of several labels per image."""
FEW = 10


def distinct(images: Sequence[Prepared], path: Path) -> tuple[list[Prepared], dict[str, int]]:
    """Keep one image per content: that of the test split rather than the pool, then the first in the source.

    Copies with different labels are all left out: nothing but the order of files would choose between them.

    Returns:
        The images, and how many copies were left out and why.

    Raises:
        UserError: Nearly everything is a copy of a few images, or many images come with several labels.
    """
    contents = Counter(image.image_id for image in images)
    _refuse_few_contents(images, contents, path)
    labels: dict[str, set[str | None]] = {}
    for image in images:
        labels.setdefault(image.image_id, set()).add(image.raw.label)
    conflicting = {content for content, names in labels.items() if len(names) > 1}
    if len(conflicting) > 1 and len(conflicting) > MOST_CONFLICTING * len(contents):
        first = next(image for image in images if image.image_id in conflicting)
        raise UserError(
            f"{len(conflicting):,} of {len(contents):,} images of {path} come with several labels; the first is "
            f"{first.raw.name}: {', '.join(sorted(map(str, labels[first.image_id])))}.",
            "keep one label per image.",
        )
    kept: dict[str, Prepared] = {}
    counts = {"within_pool": 0, "within_test": 0, "across_pool_and_test": 0}
    for image in sorted(images, key=lambda one: one.raw.split != "test"):
        if image.image_id in conflicting:
            continue
        first = kept.setdefault(image.image_id, image)
        if first is not image:
            within = first.raw.split == image.raw.split
            counts[f"within_{image.raw.split}" if within else "across_pool_and_test"] += 1
    removed = len(images) - len(kept)
    return list(kept.values()), {
        "removed": removed,
        **counts,
        "with_conflicting_labels": len(conflicting),
    }


def _refuse_few_contents(images: Sequence[Prepared], contents: Counter[str], path: Path) -> None:
    if len(images) <= FEW:
        return
    content, most = contents.most_common(1)[0]
    if 2 * most < len(images) and not (len(contents) <= FEW and len(images) >= 20 * len(contents)):
        return
    example = next(image for image in images if image.image_id == content)
    low, high = example.levels
    raise UserError(
        f"{most:,} of {len(images):,} images of {path} are the same picture once they are read ({len(contents):,} different "
        f"ones in all): {example.raw.name}, grey levels {low} to {high}.",
        "look at that file, and at ingestion.range and ingestion.background, which say what becomes black and white.",
    )
