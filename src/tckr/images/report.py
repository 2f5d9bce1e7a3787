"""The ingestion report: what was read, what was dropped and why, what came out."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from tckr.images import canaries
from tckr.images.split import SPLITS

if TYPE_CHECKING:  # it imports torch, which a certificate does not need
    from tckr.images.prepare import Prepared, Skipped

MOST_SIZES = 20


def outcome(table: pd.DataFrame, class_names: Sequence[str], size: int) -> dict[str, Any]:
    """Describe the image table: counts per split and class, canaries, classes, shape, content hash."""
    from tckr.images.tensors import to_tensor  # imports torch, which a certificate does not need

    counts = pd.crosstab(table["split"], table["class_name"])
    return {
        "images": len(table),
        "splits": {split: int((table["split"] == split).sum()) for split in SPLITS},
        "classes": list(class_names),
        "counts": {
            split: {name: int(counts.loc[split, name]) for name in class_names} for split in SPLITS
        },
        "canaries": canaries.summary(table),
        "size": size,
        "channels": to_tensor(table["image"].iloc[:1]).shape[1],
        "data_hash": data_hash(table),
    }


def intake(
    prepared: "Sequence[Prepared]",
    skipped: "Sequence[Skipped]",
    duplicates: dict[str, int],
    n_unused: int,
) -> dict[str, Any]:
    """Describe the source: the number of images read, their sizes and modes, and what was dropped and why."""
    originals = [image.original.rsplit(maxsplit=1) for image in prepared]
    sizes = Counter(size for _, size in originals).most_common()
    return {
        "read": len(prepared) + len(skipped),
        "original_modes": dict(Counter(mode for mode, _ in originals).most_common()),
        "original_sizes": dict(sizes[:MOST_SIZES]),
        "other_original_sizes": sum(count for _, count in sizes[MOST_SIZES:]),
        "duplicates": dict(duplicates),
        "unused": n_unused,
        "skipped": len(skipped),
        "skipped_images": [{"name": bad.name, "reason": bad.reason} for bad in skipped],
    }


def pictures(report: Mapping[str, Any], split: str) -> int:
    """Return how many images of a split are not a further copy of a duplicated canary.

    >>> several = {"members": 2, "holdout": 2, "copies": 5}
    >>> pictures({"splits": {"members": 108}, "canaries": {"duplicated": several}}, "members")
    100
    """
    several = report.get("canaries", {}).get("duplicated")
    further = several[split] * (several["copies"] - 1) if several and split in several else 0
    return int(report["splits"][split]) - further


def sentence(report: dict[str, Any]) -> str:
    """Return the report in one line, for the log."""
    splits = ", ".join(f"{count:,} {split}" for split, count in report["splits"].items())
    wrong = report["canaries"]["total"]
    planted = f"; {wrong:,} canaries with a label that is wrong on purpose" if wrong else ""
    if several := report["canaries"].get("duplicated"):
        planted += (
            f"; {several['members']:,} members and {several['holdout']:,} holdout images are canaries of {several['copies']:,}"
            f" copies each ({several['added']:,} of the images are further copies)"
        )
    return (
        f"{report['images']:,} images of {len(report['classes'])} classes ({splits}); "
        f"{report['duplicates']['removed']:,} duplicates removed, {report['skipped']:,} skipped, "
        f"{report['unused']:,} left over{planted}."
    )


def data_hash(table: pd.DataFrame) -> str:
    """Return SHA-256 over the id, split and class of every image, independent of the order of the rows."""
    columns = (table[name].tolist() for name in ("image_id", "split", "class_name"))
    digest = hashlib.sha256()
    for number, line in enumerate(sorted(map(" ".join, zip(*columns, strict=True)))):
        digest.update(f"\n{line}".encode() if number else line.encode())
    return digest.hexdigest()
