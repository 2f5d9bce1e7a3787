"""Words instead of members' captions: a noisy histogram of what the captioner says, from which prompts are drawn.

A caption tells of one private image, so that under differential privacy none may be used. Counted over a class, words may:
every image falls into k cells of a histogram and changes it by sqrt(k) at most. Where the cells lie is public: known from
the captioner's grammar (`Slots`) or from captions of public images (`Topics`), never from private ones.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tckr.dp.budget import Plan
from tckr.dp.ledger import Entry, code_of
from tckr.dp.mechanisms import noisy_histogram
from tckr.dp.noise import Noise

Cells = NDArray[np.int64]
WORDS_HASHED = 512  # columns of `bag_of_words`


class Vocabulary(Protocol):
    """Public cells, and how captions fall into them and are written from them."""

    @property
    def size(self) -> int:
        """Number of cells."""

    @property
    def named(self) -> int:
        """Cells that one caption falls into, k, at most."""

    def read(self, captions: Sequence[str]) -> Cells:
        """Return the cells of each caption, int64 (N, k); -1 for what it does not say."""

    def write(
        self, weights: NDArray[np.float64], count: int, draw: np.random.Generator
    ) -> list[str]:
        """Return `count` captions drawn with these weights of the cells, (size,), at least 0."""


@dataclass(frozen=True)
class Slot:
    """A place in the captioner's sentence, and what it may say there."""

    name: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Slots:
    """The grammar of a captioner that fills slots; drawn slot by slot, or along a tree of pairs.

    Without a tree the slots of a prompt are independent. With one, each slot but the root is counted *with* its parent: the
    same number of cells an image, so the same sensitivity, and what goes together stays together along the tree.

    Attributes:
        template: a sentence with the slots' names in braces.
        slots: in any order.
        parents: of each slot its place in `slots`, -1 for the root; None for no tree. See `tree`.

    Example:
        >>> grammar = Slots("{size} {colour} shape", (Slot("size", ("small", "large")), Slot("colour", ("red", "blue"))))
        >>> grammar.read(["large red shape", "large pink shape"]).tolist()
        [[1, 2], [1, -1]]
        >>> grammar.write(np.array([1.0, 0, 0, 1]), 1, np.random.default_rng(0))
        ['small blue shape']
    """

    template: str
    slots: tuple[Slot, ...]
    parents: tuple[int, ...] | None = None

    @property
    def named(self) -> int:
        """Cells that one caption falls into: one a slot."""
        return len(self.slots)

    @property
    def size(self) -> int:
        """Number of cells."""
        return int(sum(self._shape(i)[0] * self._shape(i)[1] for i in range(len(self.slots))))

    def read(self, captions: Sequence[str]) -> Cells:
        """Return the cell of every slot of each caption; -1 where the caption does not fill it."""
        values = self.values(captions)
        if self.parents is None:
            cells, known = values + self._offsets, values >= 0
        else:
            parents = np.array(self.parents)
            above = np.where(parents < 0, 0, values[:, parents])
            widths = np.array([len(slot.words) for slot in self.slots])
            cells, known = self._offsets + above * widths + values, (values >= 0) & (above >= 0)
        return np.where(known, cells, -1)

    def values(self, captions: Sequence[str]) -> Cells:
        """Return the word of every slot of each caption, int64 (N, slots); -1 where there is none of the slot's words."""
        found = np.full((len(captions), len(self.slots)), -1, np.int64)
        for row, caption in enumerate(captions):
            match = self._pattern.fullmatch(caption)
            if match:
                for place, slot in enumerate(self.slots):
                    found[row, place] = self._places[place].get(match[slot.name].strip(), -1)
        return found

    def write(
        self, weights: NDArray[np.float64], count: int, draw: np.random.Generator
    ) -> list[str]:
        """Return `count` captions drawn with these weights of the cells."""
        chosen = np.zeros((count, len(self.slots)), np.int64)
        for place in self._from_root:
            above, words = self._shape(place)
            table = weights[self._offsets[place] :][: above * words].reshape(above, words)
            shares = _shares(table.sum(0))  # where nothing is known of a parent
            rows = np.array([_shares(row, shares) for row in table])
            parent = -1 if self.parents is None else self.parents[place]
            given = rows[chosen[:, parent]] if parent >= 0 else rows[np.zeros(count, np.int64)]
            drawn = (given.cumsum(1) < draw.random((count, 1))).sum(1)
            chosen[:, place] = np.minimum(drawn, words - 1)
        return [self._sentence(row) for row in chosen]

    def tree(self, public: Sequence[str]) -> "Slots":
        """Return the same slots along the tree of pairs that share most information in public captions (Chow & Liu 1968).

        Args:
            public: captions of public images, never of private ones.
        """
        from scipy.sparse import csr_matrix
        from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree

        values = self.values(public)
        information = np.zeros((len(self.slots),) * 2)
        for i in range(len(self.slots)):
            for j in range(i + 1, len(self.slots)):
                both = values[(values[:, [i, j]] >= 0).all(1)][:, [i, j]]
                information[i, j] = _mutual_information(both)
        # A spanning tree of the least distance; 0 would mean that there is no edge.
        distance = np.triu(information.max() + 1 - information, 1)
        edges = minimum_spanning_tree(csr_matrix(distance))
        _, parents = breadth_first_order(edges, 0, directed=False)
        return Slots(self.template, self.slots, tuple(int(max(parent, -1)) for parent in parents))

    def _shape(self, place: int) -> tuple[int, int]:
        """Return the numbers of words of a slot's parent, 1 without one, and of its own."""
        parent = -1 if self.parents is None else self.parents[place]
        return (len(self.slots[parent].words) if parent >= 0 else 1), len(self.slots[place].words)

    @cached_property
    def _offsets(self) -> Cells:
        sizes = [above * own for above, own in map(self._shape, range(len(self.slots)))]
        return np.cumsum([0, *sizes[:-1]])

    @cached_property
    def _from_root(self) -> list[int]:
        """Places in an order in which parents come before their children."""
        if self.parents is None:
            return list(range(len(self.slots)))
        order: list[int] = []
        while len(order) < len(self.slots):
            order += [
                place
                for place, parent in enumerate(self.parents)
                if place not in order and (parent < 0 or parent in order)
            ]
        return order

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        pattern = re.escape(self.template)
        for slot in self.slots:
            words = "|".join(map(re.escape, sorted(slot.words, key=len, reverse=True)))
            # Any word will do, so that one that is unknown loses its own slot alone.
            pattern = pattern.replace(
                re.escape(f"{{{slot.name}}}"), f"(?P<{slot.name}>{words}|[^,]+?)"
            )
        return re.compile(pattern)

    @cached_property
    def _places(self) -> list[dict[str, int]]:
        return [{word: place for place, word in enumerate(slot.words)} for slot in self.slots]

    def _sentence(self, row: Cells) -> str:
        words = {slot.name: slot.words[i] for slot, i in zip(self.slots, row, strict=True)}
        return self.template.format(**words)


@dataclass(frozen=True)
class Topics:
    """Public captions in groups of like ones, for captioners without a grammar: an image falls into one group, k = 1.

    A prompt repeats a public caption of the group, so that everything a caption says goes together.

    Attributes:
        sentences: the public captions of each group.
        centroids: float (groups, D), of their embeddings.
        embed: sentences to rows of length 1; must be the same for public and private captions.
    """

    sentences: tuple[tuple[str, ...], ...]
    centroids: NDArray[np.float64]
    embed: "Embed"

    @staticmethod
    def of(public: Sequence[str], groups: int, seed: int, embed: "Embed | None" = None) -> "Topics":
        """Group public captions by k-means.

        Args:
            public: captions of public images, never of private ones.
            groups: at most as many as there are captions.
            seed: of k-means.
            embed: sentences to float (N, D), rows of length 1, such as a CLIP's text embedding; None counts their words.

        Example:
            >>> topics = Topics.of(["a red bag", "the red bag", "a tall boot", "one tall boot"], 2, seed=0)
            >>> sorted(map(sorted, topics.sentences))
            [['a red bag', 'the red bag'], ['a tall boot', 'one tall boot']]
        """
        from sklearn.cluster import KMeans

        embed = embed or bag_of_words
        fitted = KMeans(groups, n_init=4, random_state=seed).fit(embed(public))
        sentences = tuple(
            tuple(text for text, group in zip(public, fitted.labels_, strict=True) if group == each)
            for each in range(groups)
        )
        return Topics(sentences, fitted.cluster_centers_, embed)

    @property
    def named(self) -> int:
        """One group a caption."""
        return 1

    @property
    def size(self) -> int:
        """Number of groups."""
        return len(self.sentences)

    def read(self, captions: Sequence[str]) -> Cells:
        """Return the group of the nearest centroid, (N, 1)."""
        rows = self.embed(captions)
        distances = (self.centroids**2).sum(1) - 2 * rows @ self.centroids.T
        return distances.argmin(1)[:, None].astype(np.int64)

    def write(
        self, weights: NDArray[np.float64], count: int, draw: np.random.Generator
    ) -> list[str]:
        """Return public captions of groups drawn with these weights."""
        chosen = draw.choice(len(weights), count, p=_shares(weights))
        return [self.sentences[i][draw.integers(len(self.sentences[i]))] for i in chosen]


class Embed(Protocol):
    """Maps sentences to vectors of length 1, (N, D)."""

    def __call__(self, sentences: Sequence[str], /) -> NDArray[np.float64]:
        """Return one row a sentence."""


def bag_of_words(sentences: Sequence[str]) -> NDArray[np.float64]:
    """Return how often each word occurs, by hash, as rows of length 1: the same for a sentence whatever the others are."""
    from sklearn.feature_extraction.text import HashingVectorizer

    if not len(sentences):
        return np.zeros((0, WORDS_HASHED))
    counted = HashingVectorizer(n_features=WORDS_HASHED, alternate_sign=False, norm="l2").transform(
        sentences
    )
    return np.asarray(counted.toarray(), np.float64)


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


def _shares(
    weights: NDArray[np.float64], otherwise: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return weights that sum to 1; where all are 0, those of `otherwise`, or equal ones."""
    total = weights.sum()
    if total > 0:
        return weights / total
    return np.full(len(weights), 1 / len(weights)) if otherwise is None else otherwise


def _mutual_information(pairs: Cells) -> float:
    if not len(pairs):
        return 0.0
    table = np.zeros(pairs.max(0) + 1)
    np.add.at(table, tuple(pairs.T), 1 / len(pairs))
    alone = table.sum(1, keepdims=True) * table.sum(0)
    seen = table > 0
    return float((table[seen] * np.log(table[seen] / alone[seen])).sum())


def _combined(*parts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(" ".join(words).strip() for words in product(*parts))


_COLOURS = (
    *("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "brown"),
    *("black", "dark grey", "grey", "light grey", "white"),
)  # fmt: skip
_RUNS = ("whole", "notched", "split", "manifold")
# What the shipped captioner was trained to say (tckr.foundation.attributes): ten slots, public code.
SHIPPED = Slots(
    "{size} {proportions} {colour} {filling} shape, {outline}, {parts}, {surface}, {balance}, "
    "on {texture} {ground} background",
    (
        Slot("size", ("tiny", "small", "medium", "large", "huge")),
        Slot("proportions", ("very wide", "wide", "square", "tall", "very tall")),
        Slot("colour", _COLOURS),
        Slot("filling", ("thin", "open", "loose", "solid", "full")),
        Slot(
            "outline",
            _combined(
                ("wedge", "narrowing", "straight", "widening", "cone"),
                ("pinched", "hollow", "even", "round", "bulging"),
                ("outline",),
            ),
        ),
        Slot("parts", _combined(_RUNS, ("top",), _RUNS, ("bottom",))),
        Slot(
            "surface",
            _combined(
                ("flat", "shaded", "patterned", "contrasted"),
                ("smooth", "grained", "textured", "rough"),
                ("banded across", "", "striped down"),
            ),
        ),
        Slot(
            "balance",
            _combined(
                ("lopsided", "uneven", "symmetric"),
                ("top heavy", "level", "bottom heavy"),
                ("heavier left", "centred", "heavier right"),
            ),
        ),
        Slot("texture", ("plain", "soft", "busy")),
        Slot("ground", _COLOURS),
    ),
)
