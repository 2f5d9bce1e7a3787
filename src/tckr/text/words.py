"""Words instead of members' captions: a noisy histogram of what the captioner says, from which prompts are drawn.

A caption tells of one private image, so that under differential privacy none may be used. Counted over a class, words may:
every image falls into k cells of a histogram and changes it by sqrt(k) at most. Where the cells lie is public: known from
the captioner's grammar or from captions of public images (`tckr.text.vocabulary`), never from private ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tckr.dp.budget import Plan
from tckr.dp.ledger import Entry, code_of
from tckr.dp.mechanisms import noisy_histogram
from tckr.dp.noise import Noise
from tckr.errors import UserError
from tckr.text.vocabulary import Cells, Vocabulary


@dataclass(frozen=True)
class WordHistogram:
    """Noisy counts of cells, class by class; nothing else is known of the captions.

    Attributes:
        counts: int64 (classes, cells), which may be negative.
        sigma: standard deviation of their noise.
        vocabulary: the cells.
    """

    counts: Cells
    sigma: float
    vocabulary: Vocabulary

    def weights(self, label: int) -> NDArray[np.float64]:
        """Return the counts of a class as weights: less than the noise is nothing, since most empty cells would be drawn."""
        return np.maximum(self.counts[label] - self.sigma, 0.0)


def words_plan(vocabulary: Vocabulary, share: float, name: str = "words") -> Plan:
    """Return what to plan in the ledger: one discrete Gaussian of sensitivity sqrt(k).

    >>> from tckr.text.vocabulary import SHIPPED
    >>> words_plan(SHIPPED, share=1).cells
    10
    """
    return Plan(
        name=name,
        mechanism="discrete_gaussian",
        sensitivity=vocabulary.named**0.5,
        share=share,
        why=f"an image adds 1 to {vocabulary.named} cells of its class at most; the cells themselves are public",
        code=code_of(count_words),
    )


def count_words(
    captions: Sequence[str],
    labels: Sequence[int],
    n_classes: int,
    vocabulary: Vocabulary,
    entry: Entry,
    noise: Noise,
) -> WordHistogram:
    """Count the words of the captions of each class, with noise.

    Args:
        captions: of the private images; each is a matter of its image alone.
        labels: their classes.
        n_classes: classes in all, as the owner names them.
        vocabulary: public cells.
        entry: what the ledger charged, planned by `words_plan`.
        noise: the source.

    Raises:
        UserError: the entry was not spent.
        ValueError: labels out of range, or more cells an image than were charged.
    """
    classes = np.asarray(labels, np.int64)
    if len(classes) and not 0 <= classes.min() <= classes.max() < n_classes:
        raise ValueError(f"classes must lie in 0..{n_classes - 1}")
    cells = vocabulary.read(captions)
    size = vocabulary.size
    placed = np.where(cells >= 0, cells + classes[:, None] * size, -1)
    counts = noisy_histogram(placed, n_classes * size, entry, noise)
    return WordHistogram(counts.reshape(n_classes, size), entry.sigma, vocabulary)


def check_classes(histogram: WordHistogram, class_names: Sequence[str]) -> None:
    """Check that every class stands out of the noise; only the noisy counts are looked at, so this costs nothing.

    Raises:
        UserError: the members of a class, as its cells count them, lie within two standard deviations of none.
    """
    named, size = histogram.vocabulary.named, histogram.vocabulary.size
    deviation = histogram.sigma * size**0.5 / named
    for name, cells in zip(class_names, histogram.counts, strict=True):
        members = cells.sum() / named
        if members < 2 * deviation:
            raise UserError(
                f"Class '{name}' has too few members for epsilon: by its noisy words it has {members:,.0f}, give or take"
                f" {deviation:,.0f}.",
                "raise epsilon or the share of words, merge the class, or set that share to 0; a captioner other than the"
                " shipped one needs words.kind: topics.",
            )


def draw_prompts(
    histogram: WordHistogram, class_names: Sequence[str], count: int, seed: int
) -> pd.DataFrame:
    """Draw prompts `"{class}: {caption}"`, balanced over the classes: post-processing, which costs nothing.

    Args:
        histogram: noisy counts.
        class_names: public names of the classes 0, 1, ...
        count: prompts in all; classes differ by one at most.
        seed: which need not be secret.

    Returns:
        `prompt` and `label`, one row per image, in random order within each round of the classes, so that every
        prefix is balanced too.
    """
    draw = np.random.default_rng(seed)
    n_classes = len(class_names)
    each = -(-count // n_classes)
    captions = [
        histogram.vocabulary.write(histogram.weights(label), each, draw)
        for label in range(n_classes)
    ]
    labels = np.concatenate([draw.permutation(n_classes) for _ in range(each)])[:count]
    rounds = np.arange(count) // n_classes
    prompts = [
        f"{class_names[label]}: {captions[label][turn]}"
        for label, turn in zip(labels, rounds, strict=True)
    ]
    return pd.DataFrame({"prompt": prompts, "label": labels.astype(np.int64)})
