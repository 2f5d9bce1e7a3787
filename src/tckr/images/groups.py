"""People (patients, lesions, sites) whose images must stay in one split."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tckr.errors import UserError
from tckr.images import split
from tckr.images.labels import group_name
from tckr.images.options import IngestionOptions
from tckr.images.raw import Again, RawImage, RawTable

logger = logging.getLogger(__name__)


def named(table: RawTable, options: IngestionOptions, path: Path) -> RawTable:
    """Give every image the group that `ingestion.group_pattern` finds in its name.

    Raises:
        UserError: A name in which nothing is found, or a second way to name groups.
    """
    if options.group_pattern is None:
        return table
    if options.group_column or "group" in options.folders.split("/"):
        raise UserError(
            "ingestion.group_pattern stands beside another way to name the groups.",
            "keep one of group_pattern, group_column and a group level in folders.",
        )
    pattern = options.group_pattern

    def images() -> Iterator[RawImage]:
        for image in table.images:
            yield replace(
                image, group=group_name(searched("group", pattern, image.name, path), str(path))
            )

    return replace(table, images=Again(images))


def searched(what: str, pattern: str, name: str, path: Path) -> str:
    """Return what the first bracket of a pattern finds in the name of an image.

    Args:
        what: "group" or "label".
        pattern: Regular expression.
        name: Of the image.
        path: The source, for the message.

    Raises:
        UserError: It finds nothing.

    >>> searched("label", "([a-z]+)_", "ant_0001.png", Path("set"))
    'ant'
    """
    found = re.search(pattern, name)
    if found is None or not found[1]:
        raise UserError(
            f"ingestion.{what}_pattern finds no {what} in the name {name!r} of {path}.",
            "mend the pattern so that its first bracket matches in every name.",
        )
    return found[1]


def assigned(everything: pd.DataFrame, images: Sequence[Any]) -> pd.DataFrame:
    """Add the column `group`, and leave out images of the pool whose person is in the source's own test split.

    Args:
        everything: One row per distinct image, with image_id and split ("pool" or "test").
        images: All `Prepared` images, copies included.

    Raises:
        UserError: No image has a group.
    """
    named = sum(one.raw.group is not None for one in images)
    if not named:
        raise UserError(
            "No image has a group, so that nothing tells which images are of one person.",
            "name the column, level or pattern that does with ingestion.group_column, folders or group_pattern.",
        )
    if named < len(images):
        logger.warning(
            "%s of %s images have no group: each counts as a person of its own.",
            f"{len(images) - named:,}",
            f"{len(images):,}",
        )
    numbers = merged([one.raw.group for one in images], [one.image_id for one in images])
    table = everything.assign(group=everything["image_id"].map(numbers).astype(np.int64))
    tested = set(table.loc[table["split"] == "test", "group"])
    shared = (table["split"] != "test") & table["group"].isin(tested)
    if shared.any():
        logger.warning(
            "%s images of the pool are left out: their people are in the source's own test split, too.",
            f"{int(shared.sum()):,}",
        )
    return table[~shared].reset_index(drop=True)


def draw(table: pd.DataFrame, totals: Mapping[str, int], seed: int) -> np.ndarray:
    """Draw splits by image, or by group where the table has groups; see `stratified` here and in `tckr.images.split`."""
    labels = table["label"].to_numpy()
    if "group" not in table:
        return split.stratified(labels, totals, seed)
    return stratified(labels, table["group"].to_numpy(), totals, seed)


def merged(groups: Sequence[str | None], image_ids: Sequence[str]) -> dict[str, int]:
    """Return the group of every distinct image, as a number.

    Groups that share an image are one: the same picture under two people's names must not be in two splits. An image
    without a group is a group of its own. Numbers count from 0 in the order of the ids, and so tell no name.

    Args:
        groups: Of every image read, copies included.
        image_ids: Their content.

    >>> merged(["ann", "bob", "ann", "cas"], ["2", "1", "1", "3"])
    {'1': 0, '2': 0, '3': 1}
    """
    parent: dict[str, str] = {}

    def root(node: str) -> str:
        while parent.setdefault(node, node) != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for group, image_id in zip(groups, image_ids, strict=True):
        content = root(f"image {image_id}")
        if group is not None:
            parent[content] = root(f"group {group}")
    numbers: dict[str, int] = {}
    return {
        image_id: numbers.setdefault(root(f"image {image_id}"), len(numbers))
        for image_id in sorted(set(image_ids))
    }


def stratified(
    labels: np.ndarray, groups: np.ndarray, totals: Mapping[str, int], seed: int
) -> np.ndarray:
    """Draw disjoint splits at random such that each group is in one, with the classes as even as groups allow.

    Groups are dealt out from the largest to the smallest, each to the split that lacks most of what it has; what no split
    lacks is left over. Sizes may miss their totals by part of a group.

    Args:
        labels: int (N,), class of each example, in an order that depends on their content alone.
        groups: int (N,), group of each.
        totals: Examples wanted in each split.
        seed: Of the draw.

    Returns:
        str (N,), the split of each example, "" for those left over.

    >>> splits = stratified(np.array([0, 1] * 6), np.repeat(np.arange(6), 2), {"test": 4, "pool": 8}, seed=0)
    >>> sorted(splits.tolist()) == ["pool"] * 8 + ["test"] * 4, (splits[::2] == splits[1::2]).all()
    (True, np.True_)
    """
    classes, label_index = np.unique(labels, return_inverse=True)
    names, group_index = np.unique(groups, return_inverse=True)
    have = np.zeros((len(names), len(classes)), np.int64)
    np.add.at(have, (group_index, label_index), 1)
    share = have.sum(0) / max(len(labels), 1)
    wanted = np.array([total * share for total in (*totals.values(), 0)])
    wanted[-1] = np.maximum(have.sum(0) - wanted[:-1].sum(0), 0)
    missing = wanted.copy()
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-have[order].sum(1), kind="stable")]
    choice = np.zeros(len(names), np.int64)
    scale = np.maximum(wanted, 1e-9)
    for group in order:
        # How much of the squared shortfall, relative to what is wanted, the group takes away.
        gain = (missing**2 - (missing - have[group]) ** 2) / scale
        choice[group] = int(np.argmax(gain.sum(1)))
        missing[choice[group]] -= have[group]
    splits = np.array([*totals, ""], dtype=object)
    return splits[choice][group_index]
