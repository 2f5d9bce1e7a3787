"""Turn any labelled image source into the deduplicated, split private set and its report."""

import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from sys import intern
from typing import Any

import numpy as np
import pandas as pd

from tckr.engine.progress import track
from tckr.errors import UserError
from tckr.images import account, canaries, copies, groups, report, split, twins
from tckr.images.early import refuse_small_classes
from tckr.images.encoded import EncodedImages
from tckr.images.labels import alike, class_names
from tckr.images.options import IngestionOptions
from tckr.images.pixels import Scales, judge, refuse_two_scales
from tckr.images.prepare import BadImageError, Prepared, Skipped, as_colour, prepare
from tckr.images.raw import RawImage, RawTable, in_batches, readable
from tckr.images.readers import read
from tckr.images.stores import Heap
from tckr.images.tensors import in_threads

logger = logging.getLogger(__name__)

ROUND = 4096  # images that are in memory when grey ones become coloured
COLUMNS = ["image_id", "split", "label", "class_name", "canary", "image"]


def ingest(
    path: Path | str, options: IngestionOptions, seed: int
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read, check, normalise, deduplicate and split a labelled image source, and plant canaries.

    The splits depend on the content of the images, the seed and the options, not on the names or order of files.

    Images go to a scratch file as they are decoded, and the table reads them from there. In memory is what the splits
    are drawn from, about 700 bytes for each image while it runs.

    Args:
        path: A folder or file; see `tckr.images.readers.read`.
        options: Size, colour, sizes of the splits and strictness.
        seed: Seed of the splits.

    Returns:
        The image table: image_id (str), split ("members", "holdout", "validation", "test"), label (int64, 0..C-1),
        class_name (str), canary (bool: label and class_name are wrong on purpose), image (PNG bytes, all of one mode
        and size), and group (int64) if the source names groups; with duplicated canaries also group and copy (int64), see
        `tckr.images.canaries.duplicate`; and the JSON-able ingestion report.

    Raises:
        UserError: The source and the options give no private set.

    ```python
    table, report = ingest("data/01_raw/fashion_mnist", IngestionOptions(size=28), seed=0)
    ```
    """
    path = Path(path)
    raw = read(path, options)
    refuse_small_classes(raw, options, path)
    scales = judge(raw, options, str(path))
    pixels = Heap()
    prepared, skipped = prepare_all(raw, options, scales, pixels)
    _check_skipped(prepared, skipped, path)
    if any(image.mode == "RGB" for image in prepared):
        prepared = _in_colour(prepared, pixels)
    masks = refuse_two_scales((image.levels for image in prepared), options, str(path))
    unique, duplicates = copies.distinct(prepared, path)
    found = {str(image.raw.label) for image in unique}
    names = class_names(found, raw.class_names, options.class_names, str(path))
    everything = _table(unique, names, pixels)
    if options.grouped:
        everything = groups.assigned(everything, prepared)
    everything, dropped = twins.handled(everything, options.near_duplicates)
    table = _split(everything, options, seed, path)
    near = twins.across_splits(table, dropped)
    table = canaries.plant(table, list(names.values()), options.canaries.mislabelled, seed)
    n_used = len(table)
    table = canaries.duplicate(table, options.canaries, seed)
    table = table[[name for name in (*COLUMNS, "group", canaries.COPY) if name in table]]
    summary = {
        "source": readable(path.as_posix()),
        "format": raw.format,
        "licence": options.licence,
        "seed": seed,
        **report.outcome(table, list(names.values()), options.size),
        **report.intake(prepared, skipped, duplicates, n_unused=len(unique) - n_used),
        **account.of(raw, scales, prepared, masks, everything, table, near),
    }
    account.log(summary)
    return table, summary


def prepare_all(
    raw: RawTable, options: IngestionOptions, scales: Scales, pixels: Heap
) -> tuple[list[Prepared], list[Skipped]]:
    """Decode, make square and encode every image of a source; the PNGs go to the heap, in the order of the first list.

    Raises:
        UserError: an image cannot be used and `options.strict` is on.
    """

    def one(image: RawImage) -> Prepared | Skipped:
        if image.label is None:
            return Skipped(image.name, "no label")
        try:
            return prepare(image, options, scales)
        except BadImageError as error:
            return Skipped(image.name, str(error), image.label)

    def some(images: list[RawImage]) -> list[Prepared | Skipped]:
        return [one(image) for image in images]

    def results() -> Iterator[Prepared | Skipped]:
        batches, workers = in_batches(raw.images), os.cpu_count() or 1
        with ThreadPoolExecutor(workers) as pool:
            # One round at a time: `map` would queue the content of every image of the source at once.
            while some_batches := list(islice(batches, workers)):
                for done in pool.map(some, some_batches):
                    yield from done

    prepared, skipped = [], []
    for result in track(results(), "reading images", raw.count):
        if isinstance(result, Prepared):
            prepared.append(_moved(result, pixels))
            continue
        if options.strict:
            raise UserError(
                f"{result.name}: {result.reason} (ingestion.strict is on).",
                "mend or remove it, or set ingestion.strict to false to skip and count it.",
            )
        skipped.append(result)
    return prepared, skipped


def _moved(image: Prepared, pixels: Heap) -> Prepared:
    """Return the image without its pixels, which go to the file, and its texts, of which there are few, as one object."""
    raw = replace(image.raw, label=intern(str(image.raw.label)))
    row = pixels.append(image.png)
    return replace(image, raw=raw, png=b"", original=intern(image.original), row=row)


def _in_colour(prepared: list[Prepared], pixels: Heap) -> list[Prepared]:
    """Give the grey ones among the images three equal channels."""
    result = []
    for start in range(0, len(prepared), ROUND):
        part = prepared[start : start + ROUND]
        contents = pixels.read(np.array([image.row for image in part]))
        whole = [replace(image, png=png) for image, png in zip(part, contents, strict=True)]
        for before, image in zip(part, in_threads(as_colour, whole), strict=True):
            result.append(before if image.mode == before.mode else _moved(image, pixels))
    return result


def _check_skipped(prepared: list[Prepared], skipped: list[Skipped], path: Path) -> None:
    for bad in skipped[:10]:
        logger.warning("Skipped %s: %s.", bad.name, bad.reason)
    if len(skipped) > 10:
        logger.warning("Skipped %d more; the ingestion report lists them.", len(skipped) - 10)
    total = len(prepared) + len(skipped)
    if skipped and all(bad.reason == "no label" for bad in skipped) and not prepared:
        raise UserError(
            f"Labels are missing: none of the {total} images of {path} has one.",
            "add a label to each.",
        )
    if len(skipped) > len(prepared):
        first = skipped[0]
        raise UserError(
            f"{len(skipped)} of {total} images of {path} cannot be used; the first is {first.name}: {first.reason}.",
            "mend the source, or point ingestion at the right one.",
        )
    lost = {bad.label for bad in skipped} - {image.raw.label for image in prepared} - {None}
    if lost:
        label = min(map(str, lost))
        of_class = [bad for bad in skipped if bad.label == label]
        raise UserError(
            f"Class {label!r} of {path} has no usable image: none of its {len(of_class):,} can be read; the first is "
            f"{of_class[0].name}: {of_class[0].reason}.",
            "mend or convert them, or leave the class out.",
        )


def _table(images: list[Prepared], names: dict[str, str], pixels: Heap) -> pd.DataFrame:
    numbers = {label: number for number, label in enumerate(names)}
    found = [str(image.raw.label) for image in images]
    table = pd.DataFrame(
        {
            "image_id": [image.image_id for image in images],
            "split": [image.raw.split for image in images],
            "label": np.array([numbers[label] for label in found], dtype=np.int64),
            "class_name": [names[label] for label in found],
            "image": EncodedImages.of(pixels, len(pixels))[[image.row for image in images]],
            "thumbnail": [image.thumbnail for image in images],
        }
    )
    return table.sort_values("image_id", ignore_index=True)


def _split(
    everything: pd.DataFrame, options: IngestionOptions, seed: int, path: Path
) -> pd.DataFrame:
    """Draw the four splits and return the rows in use, split by split, in the order of their ids."""
    own_test = everything["split"] == "test"
    n_test = split.resolve_test(options.test, int(own_test.sum()), int((~own_test).sum()))
    candidates = own_test.to_numpy() if own_test.any() else np.ones(len(everything), dtype=bool)
    drawn = np.full(len(everything), "", dtype=object)
    drawn[candidates] = groups.draw(everything[candidates], {"test": n_test}, seed)
    pool = ~own_test.to_numpy() & (drawn == "")
    totals = split.resolve_pool(
        options.members, options.holdout, options.validation, int(pool.sum()), int(own_test.sum())
    )
    drawn[pool] = groups.draw(everything[pool], totals, seed)
    table = everything.assign(split=drawn)
    _check_classes(table, path)
    parts = [table[table["split"] == name] for name in split.SPLITS]
    return pd.concat(parts, ignore_index=True)


def _check_classes(table: pd.DataFrame, path: Path) -> None:
    counts = pd.crosstab(table["class_name"], table["split"])
    for name in split.SPLITS:
        short = counts.index[counts[name] == 0] if name in counts else counts.index
        if len(short):
            twins_of = [pair for pair in alike(counts.index) if short[0] in pair]
            twin = f" and is {' beside '.join(map(repr, twins_of[0]))}" if twins_of else ""
            raise UserError(
                f"Class {short[0]!r} of {path} has {counts.loc[short[0]].sum()} images, too few for its share of every "
                f"split ({name} would get none){twin}.",
                f"add images of that class, leave it out, or raise ingestion.{name}.",
            )
