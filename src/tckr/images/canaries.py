"""Canaries: images with a deliberately wrong label, to measure what a model memorises."""

import numpy as np
import pandas as pd

from tckr.errors import UserError
from tckr.images.split import apportion

# The splits that an audit compares: canaries of the members are measured against those of the holdout.
AUDITED = ("members", "holdout")
# Makes this draw independent of the draw of the splits.
STREAM = 0xCA9A


def plant(table: pd.DataFrame, names: list[str], count: int, seed: int) -> pd.DataFrame:
    """Give `count` members and holdout images a wrong label (Aerni et al., arXiv 2404.17399).

    A wrong label cannot be guessed, only memorised: the true-positive rate on canaries stands for the most exposed
    images of the private set, which a mean over typical images hides. Canaries are drawn uniformly from each of the two
    splits, in proportion to their sizes, and each wrong label is uniform among the other classes. The true label is not
    kept.

    Args:
        table: Image table with split, label and class_name; the draw depends on the order of its rows.
        names: Names of the classes 0..C-1.
        count: Number of canaries; 0 leaves all labels as they are.
        seed: Seed of the draw.

    Returns:
        The table with `label` and `class_name` of the canaries changed, and a bool column `canary`.

    Raises:
        UserError: Fewer than half of the members or of the holdout would keep their label, or a
            class would lose all its images in one of them.

    >>> split = ["members"] * 4 + ["holdout"] * 4
    >>> names = ["bag", "boot"]
    >>> table = pd.DataFrame({"split": split, "label": [0, 1] * 4, "class_name": names * 4})
    >>> planted = plant(table, names, count=2, seed=0)
    >>> planted.groupby("split")["canary"].sum().to_dict()
    {'holdout': 1, 'members': 1}
    >>> (planted["label"] != table["label"]).equals(planted["canary"])
    True
    """
    places = [np.flatnonzero(table["split"] == split) for split in AUDITED]
    sizes = np.array([len(place) for place in places])
    most = int(sum(sizes // 2))
    if count > most or (apportion(count, sizes) > sizes // 2).any():
        raise UserError(
            f"ingestion.canaries asks for {count} wrong labels among {sizes[0]} members and {sizes[1]} holdout "
            "images, which leaves fewer than half of them true.",
            f"ask for at most {most}.",
        )
    random = np.random.default_rng([seed, STREAM])
    shares = apportion(count, sizes)
    drawn = np.concatenate(
        [random.permutation(place)[:share] for place, share in zip(places, shares, strict=True)]
    )
    labels = table["label"].to_numpy(copy=True)
    labels[drawn] = (labels[drawn] + random.integers(1, len(names), len(drawn))) % len(names)
    canary = np.zeros(len(table), dtype=bool)
    canary[drawn] = True
    changed = table.assign(
        label=labels, class_name=np.array(names, dtype=object)[labels], canary=canary
    )
    _check_classes(changed, names)
    return changed


def summary(table: pd.DataFrame) -> dict[str, int | str]:
    """Return what the ingestion report says about canaries: `total`, their number per split, and a `note`."""
    found = {split: int(table.loc[table["split"] == split, "canary"].sum()) for split in AUDITED}
    note = (
        "The labels of the canaries are wrong on purpose: drawn at random among the other classes, to measure what "
        "is learnt by heart. They count under their wrong class. A model trained on them is made for an "
        "audit: train the one to release without."
    )
    total = sum(found.values())
    return {"total": total, **found, "note": note if total else "No label was changed."}


def _check_classes(table: pd.DataFrame, names: list[str]) -> None:
    for split in AUDITED:
        left = set(table.loc[table["split"] == split, "class_name"])
        gone = [name for name in names if name not in left]
        if gone:
            raise UserError(
                f"With these ingestion.canaries no image of {split} is labelled {gone[0]!r}.",
                "ask for fewer canaries, or add images of that class.",
            )
