"""What a person checks in ten seconds: classes, splits, pixels and what was left out, in the report and in the log."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from tckr.images.labels import alike
from tckr.images.pixels import Scales
from tckr.images.prepare import Prepared
from tckr.images.raw import RawTable
from tckr.images.report import sentence
from tckr.images.split import SPLITS

logger = logging.getLogger(__name__)

MOST_CLASSES = 12
LONGEST_NAME = 24
FEW_TWINS = 0.005
"""Share of the images at which near-duplicates across splits become a warning; most sets have a few."""


def of(
    raw: RawTable,
    scales: Scales,
    prepared: Sequence[Prepared],
    masks: int,
    everything: pd.DataFrame,
    table: pd.DataFrame,
    near_duplicates: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what the ingestion report says of reading.

    Args:
        raw: The source.
        scales: How its pixels were read.
        prepared: All usable images, copies included.
        masks: How many of them hold only the grey levels 0 and 1.
        everything: Distinct images.
        table: Images in use, with their splits.
        near_duplicates: Of `tckr.images.twins.across_splits`.
    """
    notes = list(scales.notes)
    if masks:
        notes.append(
            f"{masks:,} images hold only the grey levels 0 and 1 of 8 bits, beside others: two scales in one set?"
        )
    names = list(dict.fromkeys(table["class_name"]))
    notes += [
        f"the classes {one!r} and {other!r} differ only in case or zeros"
        for one, other in alike(names)
    ]
    return {
        "left_out": list(raw.left_out),
        "pixels": {
            "read_as_black_and_white": scales.describe(),
            "background": scales.background,
            "grey_levels": [
                min((image.levels[0] for image in prepared), default=0),
                max((image.levels[1] for image in prepared), default=255),
            ],
        },
        "groups": _groups(everything, table),
        "near_duplicates": dict(near_duplicates),
        "notes": notes,
    }


def log(report: Mapping[str, Any]) -> None:
    """Write to the log what came out, a table of classes and splits, and every doubt as a warning."""
    logger.info("%s", sentence(dict(report)))
    logger.info("%s\n%s", pixels_line(report), class_table(report))
    for note in warnings_of(report):
        logger.warning("%s.", note[0].upper() + note[1:])


def pixels_line(report: Mapping[str, Any]) -> str:
    """Return source, modes and pixel ranges in one line."""
    modes = ", ".join(f"{mode} {count:,}" for mode, count in report["original_modes"].items())
    scales = ", ".join(
        f"{kind} {scale}" for kind, scale in report["pixels"]["read_as_black_and_white"].items()
    )
    low, high = report["pixels"]["grey_levels"]
    groups = report["groups"]
    people = f"; {groups['total']:,} groups, each in one split" if groups else ""
    twins = report["near_duplicates"]
    dropped = f"; {twins['dropped']:,} near-duplicates dropped" if twins["dropped"] else ""
    return (
        f"Read as {report['format']}; modes {modes}; black to white in the source: {scales or '0..255'}, "
        f"here {low} to {high}{people}{dropped}; {twins['pairs_across_splits']:,} near-duplicates across splits."
    )


def class_table(report: Mapping[str, Any]) -> str:
    """Return the number of images of each class in each split as lines of text."""
    counts, names = report["counts"], report["classes"]
    rows = [[name, *(counts[split][name] for split in SPLITS)] for name in names]
    total = ["all", *(report["splits"][split] for split in SPLITS)]
    shown = rows[:MOST_CLASSES]
    if len(rows) > MOST_CLASSES:
        rest = rows[MOST_CLASSES:]
        sums = [sum(row[column] for row in rest) for column in range(1, len(SPLITS) + 1)]
        shown.append([f"... {len(rest):,} more", *sums])
    lines = [["class", *SPLITS], *shown, total]
    texts = [
        [_short(row[0]), *(one if isinstance(one, str) else f"{one:,}" for one in row[1:])]
        for row in lines
    ]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    return "\n".join(
        f"  {row[0]:<{widths[0]}}"
        + "".join(f"  {cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in texts
    )


def warnings_of(report: Mapping[str, Any]) -> list[str]:
    """Return what a person should look at, one sentence each."""
    found = [*report["notes"], *(f"left out: {one}" for one in report["left_out"])]
    conflicting = report["duplicates"]["with_conflicting_labels"]
    if conflicting:
        found.append(f"{conflicting:,} images come with different labels and are left out")
    near = report["near_duplicates"]
    if near["pairs_across_splits"] > FEW_TWINS * report["images"]:
        split_counts = ", ".join(
            f"{count:,} {split}" for split, count in near["images_across_splits"].items() if count
        )
        found.append(
            f"{near['pairs_across_splits']:,} pairs of near-duplicates lie in different splits ({split_counts}), so that "
            "the audit understates a leak: see near_duplicates_sheet, and ingestion.near_duplicates or group_column"
        )
    unlabelled = sum(bad["reason"] == "no label" for bad in report["skipped_images"])
    if unlabelled:
        found.append(f"{unlabelled:,} images have no label (none, NaN or -1)")
    return found


def _groups(everything: pd.DataFrame, table: pd.DataFrame) -> dict[str, Any] | None:
    if "group" not in everything:
        return None
    per_split = table.groupby("split")["group"].nunique()
    sizes = Counter(everything["group"].tolist())
    return {
        "total": len(sizes),
        "largest": max(sizes.values(), default=0),
        "splits": {split: int(per_split.get(split, 0)) for split in SPLITS},
    }


def _short(name: Any) -> str:
    text = str(name)
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "\u2026"
