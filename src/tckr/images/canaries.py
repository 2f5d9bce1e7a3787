"""Canaries: images that are planted to be memorised, to measure what of them comes out.

Mislabelled ones aim at the labels: a wrong label cannot be guessed. Duplicated ones aim at the images: a generator repeats
above all what it has seen many times (Carlini et al., USENIX Security 2023, arXiv 2301.13188, where nearly every
extracted image is one of many copies). Images that were trained on once show what is typical; canaries show the worst case.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tckr.errors import UserError
from tckr.images.options import CanaryOptions
from tckr.images.split import apportion

# The splits that an audit compares: canaries of the members are measured against those of the holdout.
AUDITED = ("members", "holdout")
# Make these draws independent of the draw of the splits, and of each other.
STREAM, DUPLICATED = 0xCA9A, 0xCA9B
COPY = "copy"
"""Column of a table with duplicated canaries: 1, 2, ... numbers the copies of one, 0 is any other image."""


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


def duplicate(table: pd.DataFrame, options: CanaryOptions, seed: int) -> pd.DataFrame:
    """Plant `options.copies` copies of images of the members, and of as many of the holdout, with their right label.

    Canaries of both splits are uniform draws of one source, planted alike: nothing but the split tells the two apart. Those of
    the holdout are in no training set but that of a shadow which draws them, and then as often as a member is: else the
    shadows would tell members from holdout by the number of their copies. Copies of one canary are of one person, so that
    whatever is drawn by person (the membership of the shadows) draws all or none. No person has two canaries.

    Copies are rows of their own: whatever counts images of the table counts them. They are planted after equal and nearly
    equal images have been left out, so that none is.

    Args:
        table: Image table after `plant`; the draw depends on the order of its rows.
        options: How many, and how many copies of each.
        seed: Seed of the draw.

    Returns:
        The table as it was if there are none; else with the rows of the copies, int64 `copy` (see `COPY`) and int64 `group`.
        The first copy keeps its `image_id`; the others' ends with their number.

    Raises:
        UserError: Fewer than half of the members or of the holdout, or of their people, would be no canaries.

    >>> split = ["members"] * 4 + ["holdout"] * 4
    >>> table = pd.DataFrame({"image_id": list("abcdefgh"), "split": split, "canary": False})
    >>> planted = duplicate(table, CanaryOptions(duplicated=1, copies=3), seed=0)
    >>> planted[planted["copy"] > 0].groupby(["split", "group"]).size().tolist()
    [3, 3]
    >>> planted.loc[planted["split"] == "members", "image_id"].tolist()
    ['a', 'b', 'c', 'd', 'd-2', 'd-3']
    """
    if not options.duplicated:
        return table
    if "group" not in table:
        table = table.assign(group=np.arange(len(table)))
    random, drawn = np.random.default_rng([seed, DUPLICATED]), np.zeros(len(table), dtype=bool)
    for split in AUDITED:
        of_split = table["split"] == split
        right = random.permutation(np.flatnonzero(of_split & ~table["canary"]))
        people = right[~table["group"].iloc[right].duplicated().to_numpy()]
        wrong = int(table.loc[of_split, "canary"].sum())
        most = min(len(people), max(0, (len(people) + wrong) // 2 - wrong))
        if options.duplicated > most:
            raise UserError(
                f"ingestion.canaries asks for {options.duplicated} duplicated canaries of the {split}, of which {most} at"
                " most can be: one of each person, and with the mislabelled ones at most half.",
                f"ask for at most {most}.",
            )
        drawn[people[: options.duplicated]] = True
    rows = np.repeat(np.arange(len(table)), np.where(drawn, options.copies, 1))
    copies = pd.Series(rows).groupby(rows).cumcount().to_numpy() + 1
    ids = table["image_id"].to_numpy()[rows]
    return (
        table.iloc[rows]
        .reset_index(drop=True)
        .assign(
            image_id=[
                name if copy == 1 else f"{name}-{copy}"
                for name, copy in zip(ids, copies, strict=True)
            ],
            copy=np.where(drawn[rows], copies, 0),
        )
    )


def is_duplicated(table: pd.DataFrame) -> NDArray[np.bool_]:
    """Return which rows are duplicated canaries, copies and all: bool (N,)."""
    return _copies(table) > 0


def is_first(table: pd.DataFrame) -> NDArray[np.bool_]:
    """Return one row of each picture, bool (N,): all but the further copies of duplicated canaries.

    >>> is_first(pd.DataFrame({"copy": [0, 1, 2, 3]})).tolist(), is_first(pd.DataFrame({"label": [0]})).tolist()
    ([True, True, False, False], [True])
    """
    return _copies(table) <= 1


def copies_of(table: pd.DataFrame) -> int:
    """Return how many rows each duplicated canary has; 1 if there are none.

    >>> copies_of(pd.DataFrame({"copy": [0, 1, 2, 3]})), copies_of(pd.DataFrame({"label": [0]}))
    (3, 1)
    """
    return max(1, int(_copies(table).max(initial=0)))


def _copies(table: pd.DataFrame) -> NDArray[np.int64]:
    return table[COPY].to_numpy() if COPY in table else np.zeros(len(table), np.int64)


def summary(table: pd.DataFrame) -> dict[str, Any]:
    """Return what the ingestion report says of canaries.

    These are `total` of the mislabelled ones, their number per split, and a `note`; if there are duplicated ones also
    `duplicated`: their number per split, `copies` of each, `added` rows, and a `note`.
    """
    found = {split: int(table.loc[table["split"] == split, "canary"].sum()) for split in AUDITED}
    note = (
        "The labels of the canaries are wrong on purpose: drawn at random among the other classes, to measure what "
        "is learnt by heart. They count under their wrong class. A model trained on them is made for an "
        "audit: train the one to release without."
    )
    total = sum(found.values())
    wrong = {"total": total, **found, "note": note if total else "No label was changed."}
    several = table[is_duplicated(table)]
    if several.empty:
        return wrong
    planted = several.loc[is_first(several), "split"].value_counts()
    return wrong | {
        "duplicated": {
            **{split: int(planted[split]) for split in AUDITED},
            "copies": copies_of(several),
            "added": int((several[COPY] > 1).sum()),
            "note": (
                "These images are there several times on purpose, to measure whether what is repeated comes out. Every "
                "number of images here counts each copy, as training does; the audit counts each picture once, and "
                "the canaries apart from all others. A model trained on them is made for an audit: train the one to "
                "release without."
            ),
        }
    }


def _check_classes(table: pd.DataFrame, names: list[str]) -> None:
    for split in AUDITED:
        left = set(table.loc[table["split"] == split, "class_name"])
        gone = [name for name in names if name not in left]
        if gone:
            raise UserError(
                f"With these ingestion.canaries no image of {split} is labelled {gone[0]!r}.",
                "ask for fewer canaries, or add images of that class.",
            )
