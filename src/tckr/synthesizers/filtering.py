"""Keep of what a generator draws what the teacher recognises, and draw on until every class is full.

Dynamic Sample Filtering of GaFi (the ancestor of Knowledge Recycling, arXiv 2407.15526): an image x that was drawn for class
c stays if argmax f(x) = c and f(x)_c > threshold, where f is the teacher; what is rejected is drawn again. The target's set
and those of its shadows are filled by this one function, each with its own teacher.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from tckr.errors import UserError
from tckr.images.degenerate import RunWarning
from tckr.images.names import one_line
from tckr.options import Options

FILTER = "filter"  # the channel through which the teacher's choice of images tells of the members
DRAW = "draw"  # column of a filtered set: how many images of its class were drawn before this one
MUCH = 0.5  # share of a class's images rejected, above which a run warns

Judge = Callable[[NDArray[np.int64], int], NDArray[np.float32]]
"""Draws images by the rows of a plan, (N,), from number `start` on, and returns the teacher's probabilities of those, (n, C)."""


class FilterOptions(Options):
    """Which of the drawn images stay."""

    threshold: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="keep an image if the teacher recognises the class of its prompt in it with a probability above this;"
        " null: keep all",
    )
    max_draws: float = Field(
        10.0,
        ge=1,
        le=1000,
        description="images drawn of a class, as a multiple of those wanted, after which the run stops for want of good ones",
    )

    def described(self) -> str:
        """Say in one sentence what was filtered."""
        return (
            "Images in which the teacher did not recognise the class of their prompt with a probability above"
            f" {self.threshold:g} were drawn again."
        )


class Filled(NamedTuple):
    """What stands in each place of a plan.

    Attributes:
        numbers: int64 (M,), of the drawn images.
        plan: what the plan says of the image in each place, `prompt` and `label` among it, and its `draw`.
    """

    numbers: NDArray[np.int64]
    plan: pd.DataFrame


def fill(
    plan: pd.DataFrame,
    options: FilterOptions,
    class_names: Sequence[str],
    judge: Judge,
    *,
    strict: bool = True,
) -> Filled:
    """Draw until the teacher has accepted an image for every place of a plan.

    The first images are those of the plan itself, each in its place. In the place of a rejected one comes the next accepted
    image of its class, drawn with a number after all earlier ones from a prompt of the plan, which are used in turn. So
    the classes of any prefix are those of the plan, and the same seed gives the same set.

    Args:
        plan: `prompt` and `label` of each place, and by which generator of a mixture it is drawn (`source`).
        options: with a threshold.
        class_names: names of the classes 0, 1, ..., for the error.
        judge: draws and judges; what it draws for numbers below `start` is not looked at.
        strict: stop where a class cannot be filled. Otherwise, as for a shadow of a target whose classes could be, its
            last places get the rejected images that come nearest.

    Returns:
        Number, prompt and class of the image in each place, by the row of the plan that it was drawn by.

    Raises:
        UserError: a class is not full after `max_draws` times its images.

    >>> plan = pd.DataFrame({"prompt": ["a boot", "a bag", "a red boot"], "label": [1, 0, 1]})
    >>> def judge(rows, start):  # knows boots that are red alone
    ...     red = plan["prompt"].iloc[rows[start:]] == "a red boot"
    ...     return np.array([[0.1, 0.9] if each else [0.8, 0.2] for each in red], np.float32)
    >>> filled = fill(plan, FilterOptions(threshold=0.5), ["bag", "boot"], judge)
    >>> filled.numbers.tolist(), filled.plan["prompt"].tolist()
    ([4, 1, 2], ['a red boot', 'a bag', 'a red boot'])
    """
    assert options.threshold is not None
    labels = plan["label"].to_numpy(dtype=np.int64)
    places = {int(label): np.flatnonzero(labels == label) for label in np.unique(labels)}
    numbers = np.full(len(plan), -1, dtype=np.int64)
    of_row, of_class = np.arange(len(plan)), labels  # of every image that was drawn
    nearness = np.zeros(0)  # the teacher's probability of the wanted class
    start = 0
    while start < len(of_class):
        probabilities = judge(of_row, start)
        wanted = of_class[start:]
        near = probabilities[np.arange(len(wanted)), wanted].astype(np.float64)
        # GaFi, Dynamic Sample Filtering: argmax f(x) = c and f(x)_c > threshold.
        good = (probabilities.argmax(1) == wanted) & (near > options.threshold)
        nearness = np.concatenate([nearness, near])
        accepted = start + np.flatnonzero(good)
        if start == 0:
            numbers[accepted] = accepted
        else:
            for label, own in places.items():
                _put(numbers, own, accepted[of_class[accepted] == label])
        start = len(of_class)
        further = []
        for label, own in places.items():
            drawn, missing = int((of_class == label).sum()), int((numbers[own] < 0).sum())
            count = _further(len(own), drawn, missing, options.max_draws)
            if missing and not count:
                if strict:
                    raise _cannot_be_filled(class_names[label], len(own), drawn, missing, options)
                _put(numbers, own, _nearest(numbers, nearness, np.flatnonzero(of_class == label)))
            further.append(own[(drawn + np.arange(count)) % len(own)])
        of_row = np.concatenate([of_row, *further])
        of_class = labels[of_row]
    ordinal = pd.Series(of_class).groupby(of_class).cumcount().to_numpy()
    filled = plan.iloc[of_row[numbers]].reset_index(drop=True)
    return Filled(numbers, filled.assign(**{DRAW: ordinal[numbers]}))


def rejected(drawn: pd.DataFrame, class_names: Sequence[str]) -> dict[str, float]:
    """Return which share of the images drawn of each class was rejected, by the name of the class.

    Args:
        drawn: `label` and `draw` of a filtered set.
        class_names: names of the classes 0, 1, ...

    >>> rejected(pd.DataFrame({"label": [0, 1, 1], "draw": [0, 1, 3]}), ["bag", "boot"])
    {'bag': 0.0, 'boot': 0.5}
    """
    by_class = drawn.groupby("label")[DRAW]
    needed = by_class.max() + 1
    return {
        class_names[label]: float(1 - count / needed[label])
        for label, count in by_class.count().items()
    }


def draws_per_image(drawn: pd.DataFrame) -> float:
    """Return how many images were drawn for each that stayed, 1 without a filter.

    >>> draws_per_image(pd.DataFrame({"label": [0, 1, 1], "draw": [0, 1, 3]}))
    1.6666666666666667
    """
    if DRAW not in drawn:
        return 1.0
    return float((drawn.groupby("label")[DRAW].max() + 1).sum() / len(drawn))


def check_rejected(shares: dict[str, float]) -> list[RunWarning]:
    """Return a warning for the classes of which the teacher rejected most images.

    >>> check_rejected({"bag": 0.2, "boot": 0.75})[0].text
    'The teacher rejected most images that were drawn of boot (75.0 %).'
    """
    found = [f"{one_line(name)} ({share:.1%})" for name, share in shares.items() if share > MUCH]
    if not found:
        return []
    listed = ", ".join(found).replace("%", " %")
    return [RunWarning(FILTER, f"The teacher rejected most images that were drawn of {listed}.")]


def _further(wanted: int, drawn: int, missing: int, max_draws: float) -> int:
    """Return how many images of a class to draw next: as many as its rate so far asks for, 0 once there were enough."""
    if not missing:
        return 0
    rate = (wanted - missing + 1) / (drawn + 2)  # Laplace's rule of succession
    return max(0, min(math.ceil(missing / rate), drawn, math.ceil(max_draws * wanted) - drawn))


def _put(numbers: NDArray[np.int64], places: NDArray[np.int64], found: NDArray[np.int64]) -> None:
    """Put images in the first empty places of their class; what is over is left out."""
    empty = places[numbers[places] < 0][: len(found)]
    numbers[empty] = found[: len(empty)]


def _nearest(
    numbers: NDArray[np.int64], nearness: NDArray[np.float64], drawn: NDArray[np.int64]
) -> NDArray[np.int64]:
    left = drawn[~np.isin(drawn, numbers)]
    return left[np.argsort(-nearness[left], kind="stable")]


def _cannot_be_filled(
    name: str, wanted: int, drawn: int, missing: int, options: FilterOptions
) -> UserError:
    accepted = wanted - missing
    return UserError(
        f"The teacher recognises class {one_line(name)} in {accepted:,} of {drawn:,} images that were drawn of it"
        f" ({1 - accepted / drawn:.1%} rejected), and {wanted:,} are wanted.".replace("%", " %"),
        f"lower knowledge_recycling.filter.threshold (now {options.threshold:g}; null: no filter), raise"
        " knowledge_recycling.filter.max_draws, or adapt the generator longer.",
    )
