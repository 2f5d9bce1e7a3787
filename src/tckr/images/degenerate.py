"""Outputs that are worth nothing, told from those that only look so: the rules by which a run stops or warns.

A run stops where what it made is useless: captions that are all empty, images that are all equal, blank or not finite,
probabilities that are not finite. It warns, and says so in its summary, the report and the card of the recycled set, where
what it made is poor: captions that are all equal, few distinct images, a teacher that does no better than chance, a class
that was never drawn or that the teacher never sees.
"""

import io
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from tckr.errors import UserError
from tckr.images.names import one_line

logger = logging.getLogger(__name__)

KEY = "warnings"  # of a table's attributes
ENOUGH = 5  # images of a class, below which it means nothing that the teacher sees none
LEVEL = 0.01  # a teacher is better than chance if chance does as well less often than this
# What a card says in place of a warning whose text comes from private images.
PUBLIC = {
    "captions": "The captions behind the prompts are equal or empty, in part or all of them.",
    "prompts": "Some prompts are longer than the generator reads: what their ends say had no effect.",
    "teacher": "The teacher is not shown to be better than chance: its soft labels may mean nothing.",
    "filter": "The teacher rejected most images that were drawn of some classes.",
}
NAMED = 5  # classes that a message names


class RunWarning(NamedTuple):
    """Something poor that a run made.

    Attributes:
        about: captions, prompts, images, teacher or filter.
        text: one sentence.
    """

    about: str
    text: str

    @property
    def for_release(self) -> str:
        """Return the sentence for the card of the recycled set, which must not repeat captions or counts of private images."""
        return PUBLIC.get(self.about, self.text)


def check_captions(captions: Sequence[str]) -> list[RunWarning]:
    """Return what is poor about the captions of different images.

    Raises:
        UserError: all are empty.

    >>> [warning.text for warning in check_captions(["a bag", "a bag"])]
    ["All 2 captions are equal ('a bag'): they tell the generator no more than the class."]
    """
    count, empty = len(captions), sum(not caption.strip() for caption in captions)
    if count and empty == count:
        raise UserError(
            f"All {count:,} captions are empty: the captioner writes nothing about these images.",
            "give another captioning.captioner, a captioning.prompt or more captioning.max_new_tokens.",
        )
    if count > 1 and len(set(captions)) == 1:
        said = one_line(captions[0])[:60]
        return [
            RunWarning(
                "captions",
                f"All {count:,} captions are equal ({said!r}): they tell the generator no more than the class.",
            )
        ]
    if empty:
        return [RunWarning("captions", f"{empty:,} of {count:,} captions are empty.")]
    return []


def check_prompts(count: int, cut: int) -> list[RunWarning]:
    """Return a warning if some of so many prompts are longer than the generator reads.

    >>> check_prompts(count=10, cut=2)[0].text
    '2 of 10 prompts are longer than the generator reads: what their ends say had no effect.'
    >>> check_prompts(count=10, cut=0)
    []
    """
    if not cut:
        return []
    text = f"{cut:,} of {count:,} prompts are longer than the generator reads: what their ends say had no effect."
    return [RunWarning("prompts", text)]


def check_distinct(keys: Sequence[Any], blank: int = 0) -> list[RunWarning]:
    """Return what is poor about synthetic images, by what tells them apart.

    Args:
        keys: one per image, equal for equal images.
        blank: images of a single colour.

    Raises:
        UserError: all are equal, or all are blank.

    >>> check_distinct(["a", "b", "c"])
    []
    """
    count, distinct = len(keys), len(set(keys))
    remedy = (
        "look at the generator and its adapter: weights that overflow, a learning rate that is too high, or a"
        " resolution or scheduler that they were not made for."
    )
    if count > 1 and distinct == 1:
        raise UserError(f"All {count:,} synthetic images are equal.", remedy)
    if count and blank == count:
        raise UserError(f"All {count:,} synthetic images are blank: each is of one colour.", remedy)
    found = []
    if 2 * distinct < count:
        found.append(f"Only {distinct:,} of {count:,} synthetic images are distinct.")
    if blank:
        found.append(f"{blank:,} of {count:,} synthetic images are blank: each is of one colour.")
    return [RunWarning("images", text) for text in found]


def check_teacher(validation: Mapping[str, int]) -> list[RunWarning]:
    """Return a warning if a teacher is no better than chance, by a one-sided binomial test on the validation split.

    Args:
        validation: `right` of `images` predictions, and `largest`, the images of the most frequent class: chance is to
            answer with that class always.

    >>> check_teacher({"images": 100, "right": 80, "largest": 10})
    []
    """
    from scipy.stats import binomtest

    images, right, largest = (validation[name] for name in ("images", "right", "largest"))
    if not images or largest == images:
        return []
    p = binomtest(right, images, largest / images, alternative="greater").pvalue
    if p < LEVEL:
        return []
    return [
        RunWarning(
            "teacher",
            f"The teacher is not shown to be better than chance: it classifies {right:,} of {images:,} validation images"
            f" correctly, and always the most frequent class {largest:,} (p = {p:.2g}). Its labels may mean nothing.",
        )
    ]


def check_labels(
    labels: NDArray[np.int64], probabilities: NDArray[np.float32] | None, names: Sequence[str]
) -> list[RunWarning]:
    """Return which classes were not drawn, or were drawn and not seen by the teacher in any image.

    An image shows every class to which the teacher gives its largest probability. One that was not trained, such as stands
    in for a private teacher without a share of the budget, gives it to all alike and so misses none.

    Args:
        labels: (M,), the class that each image was asked for.
        probabilities: (M, C), the teacher's; None if it has no part in the labels.
        names: of the C classes.

    Raises:
        UserError: a probability is not finite.
    """
    asked = np.bincount(labels, minlength=len(names))
    found = []
    if (absent := np.flatnonzero(asked == 0)).size:
        found.append(
            f"No image was drawn of {_listed(absent, names)}: {len(labels):,} images are too few for {len(names):,}"
            " classes (knowledge_recycling.cardinality)."
        )
    if probabilities is not None:
        if not np.isfinite(probabilities).all():
            raise UserError(
                "The teacher's probabilities are not finite: its training diverged.",
                "lower classifier.learning_rate.",
            )
        seen = (probabilities == probabilities.max(1, keepdims=True)).any(0)
        if (unseen := np.flatnonzero(~seen & (asked >= ENOUGH))).size:
            found.append(
                f"According to the teacher no synthetic image shows {_listed(unseen, names)}, though"
                f" {int(asked[unseen].sum()):,} were drawn of it."
            )
    return [RunWarning("images", text) for text in found]


def with_warnings(table: pd.DataFrame, found: Sequence[RunWarning]) -> pd.DataFrame:
    """Return the table with what its card must warn of; pandas hands it on."""
    warned = table.copy(deep=False)
    warned.attrs = {**table.attrs, KEY: [list(warning) for warning in found]}
    return warned


def warnings_about(table: pd.DataFrame) -> list[RunWarning]:
    """Return the warnings that a table was given."""
    return [RunWarning(*warning) for warning in table.attrs.get(KEY, [])]


def log(found: Sequence[RunWarning]) -> None:
    """Say the warnings in the run's log."""
    for warning in found:
        logger.warning("%s", warning.text)


def count_blank(images: Iterable[bytes]) -> int:
    """Return how many encoded images are of one colour; one is decoded at a time."""
    return sum(_is_blank(image) for image in images)


def _is_blank(image: bytes) -> bool:
    with Image.open(io.BytesIO(image)) as opened:
        extrema = opened.getextrema()
    bands = extrema if isinstance(extrema[0], tuple) else (extrema,)
    return all(low == high for low, high in bands)


def validation_facts(predicted: NDArray[np.int64], labels: NDArray[np.int64]) -> dict[str, int]:
    """Return what `check_teacher` reads: the numbers of images, of right predictions and of the most frequent class."""
    return {
        "images": len(labels),
        "right": int((predicted == labels).sum()),
        "largest": max(Counter(labels.tolist()).values(), default=0),
    }


def _listed(numbers: NDArray[np.int64], names: Sequence[str]) -> str:
    shown = ", ".join(one_line(str(names[number])) for number in numbers[:NAMED])
    more = len(numbers) - NAMED
    kind = "class" if len(numbers) == 1 else f"{len(numbers):,} classes:"
    return f"{kind} {shown}{f' and {more:,} more' if more > 0 else ''}"
