"""Public cells into which captions fall, and from which prompts are written: a grammar, or topics of public captions.

Where the cells lie is known without a private image: from the captioner's grammar (`Slots`), or from captions of public
images (`Topics`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import product
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tckr.errors import UserError
from tckr.text.options import WordsOptions

Cells = NDArray[np.int64]
WORDS_HASHED = 512  # columns of `bag_of_words`


def vocabulary(options: WordsOptions, per_class: float, sigma: float) -> "Vocabulary":
    """Choose the cells by public numbers alone.

    Slots are counted in pairs along the tree where an average cell of a pair gets more images than noise; where it does
    not, most of what would be drawn from it is noise, and slots are counted one by one.

    >>> [vocabulary(WordsOptions(), 5500, sigma).size for sigma in (7.5, 62.0)]
    [3595, 162]

    Args:
        options: kind of the vocabulary.
        per_class: members of a class, on average.
        sigma: standard deviation of the noise of a cell.

    Raises:
        UserError: the public captions cannot be read.
    """
    if options.kind == "topics":
        return _topics(str(options.public_captions), options.topics)
    if options.pairs == "auto":
        pairs = per_class * SHIPPED_TREE.named / SHIPPED_TREE.size >= sigma
    else:
        pairs = options.pairs == "always"
    return SHIPPED_TREE if pairs else SHIPPED


def vocabulary_of(options: WordsOptions, size: int) -> "Vocabulary":
    """Return the vocabulary that a histogram of so many cells was counted in.

    Raises:
        UserError: none of these options has so many.
    """
    for pairs in ("always", "never"):
        known = vocabulary(options.model_copy(update={"pairs": pairs}), 0.0, 1.0)
        if known.size == size:
            return known
    raise UserError(
        f"Words were counted in {size:,} cells, which these parameters do not have.",
        "draw with the parameters of words with which they were counted.",
    )


@lru_cache(maxsize=1)
def _topics(file: str, topics: int) -> "Topics":
    path = Path(file)
    remedy = "give a text file of captions of public images, one a line."
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeError) as error:
        raise UserError(f"words.public_captions = {path} cannot be read.", remedy) from error
    captions = [line for line in lines if line]
    if len(set(captions)) < topics:
        raise UserError(
            f"{path} holds {len(set(captions)):,} captions, too few for {topics:,} topics.",
            "give more of them, or lower words.topics.",
        )
    return Topics.of(captions, topics, seed=0)


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
# Which slots go together in captions of 2,000 images that the shipped generator drew from random words (`Slots.tree`;
# `python -m benchmarks.private_recycling` computes it again).
SHIPPED_TREE = replace(SHIPPED, parents=(-1, 6, 9, 0, 7, 7, 4, 3, 0, 6))
