"""Where a student's leak comes from: the same shadows, with and without each way in.

Three channels lead from the members to a student: the teacher's soft labels, the adapter, the captions. All eight
combinations are trained for every shadow (counterfactual students: hard labels, unadapted generator, class-name
prompts), every student of a shadow is attacked with those of the others, and the leak is shared among the channels.
"""

from collections.abc import Callable, Mapping
from itertools import product
from math import factorial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from tckr.audit.recycling import Cell
from tckr.audit.results import Attribution, ChannelShare, StudentLeak
from tckr.audit.shadow_models import StudentPlan
from tckr.classifiers.options import LabelSource
from tckr.metrics import auc

CHANNELS = ("soft labels", "adapter", "captions")
GROUPS = 20  # of examples, each left out once


class Ways(NamedTuple):
    """Which channels are open."""

    soft_labels: bool
    adapter: bool
    captions: bool

    @property
    def name(self) -> str:
        """For a column of scores."""
        opened = [name for name, on in zip(CHANNELS, self, strict=True) if on]
        return " + ".join(opened) if opened else "nothing"

    @property
    def cell(self) -> Cell:
        """The pool that such a student reads."""
        return Cell(
            "adapted" if self.adapter else "base", "captions" if self.captions else "class_names"
        )


EVERY_WAY = tuple(Ways(*on) for on in product((False, True), repeat=len(CHANNELS)))


def cells() -> dict[str, Cell]:
    """The four pools of the eight students, by name."""
    return {pool_of(ways): ways.cell for ways in EVERY_WAY}


def pool_of(ways: Ways) -> str:
    """Name of the pool that such a student reads."""
    return " ".join(ways.cell)


def plans(soft: LabelSource) -> dict[str, StudentPlan]:
    """The eight students by name; `soft`: which labels open that channel."""
    given: dict[bool, LabelSource] = {True: soft if soft != "hard" else "on_the_fly", False: "hard"}
    return {ways.name: StudentPlan(pool_of(ways), given[ways.soft_labels]) for ways in EVERY_WAY}


def attribute(
    scores: Mapping[str, NDArray[np.float64]],
    membership: NDArray[np.bool_],
    confidence: float = 0.95,
) -> Attribution:
    """Share the leak (AUC - 1/2) among the channels.

    A channel's share is its Shapley value (Shapley 1953): what opening it adds, averaged over the orders in which the
    three are opened. The shares add up to the leak of all three less that of none. Intervals: delete-a-group jackknife
    over examples (the same groups for every student, so that their common noise cancels), t with 19 degrees of freedom.

    >>> random = np.random.default_rng(0)
    >>> membership = random.random((4, 100)) < 0.5
    >>> noise = random.normal(size=(4, 100))  # a leak through the adapter only
    >>> found = attribute({w.name: noise + w.adapter * membership for w in EVERY_WAY}, membership)
    >>> {entry.channel: round(entry.share, 2) for entry in found.channels}
    {'soft labels': 0.0, 'adapter': 0.26, 'captions': 0.0, 'all': 0.26}

    Args:
        scores: (S, N) for each of the eight students by `Ways.name`: the attack on every shadow, see `leave_one_out`.
        membership: bool (S, N).
        confidence: of the intervals.
    """
    whole = _leaks(scores, membership)
    groups = np.random.default_rng(0).permutation(membership.shape[1]) % GROUPS
    parts = [
        _leaks(
            {name: rows[:, groups != g] for name, rows in scores.items()},
            membership[:, groups != g],
        )
        for g in range(GROUPS)
    ]

    def interval(of: Callable[[Mapping[Ways, float]], float]) -> tuple[float, float, float]:
        """Return value, low and high."""
        value, replicates = of(whole), np.array([of(part) for part in parts])
        spread = replicates - replicates.mean()
        error = float(np.sqrt((GROUPS - 1) / GROUPS * (spread**2).sum()))
        width = float(t.ppf((1 + confidence) / 2, GROUPS - 1)) * error
        return value, value - width, value + width

    everything, nothing = Ways(True, True, True), Ways(False, False, False)
    students = []
    for ways in EVERY_WAY:
        leak, low, high = interval(lambda leaks, ways=ways: leaks[ways])  # type: ignore[misc]
        auc_of_student = whole[ways] + 0.5
        students.append(
            StudentLeak(
                student=ways.name,
                **ways._asdict(),
                auc=auc_of_student,
                leak=leak,
                low=low,
                high=high,
            )
        )
    channels = []
    for i, name in enumerate(CHANNELS):
        share, low, high = interval(lambda leaks, i=i: _shapley(leaks, i))  # type: ignore[misc]
        alone, without = whole[_only(i)], whole[everything] - whole[_all_but(i)]
        channels.append(
            ChannelShare(
                channel=name, share=share, low=low, high=high, alone=alone, without=without
            )
        )
    share, low, high = interval(lambda leaks: leaks[everything] - leaks[nothing])
    total = ChannelShare(
        channel="all", share=share, low=low, high=high, alone=whole[everything], without=None
    )
    return Attribution(
        n_shadows=len(membership), students=tuple(students), channels=(*channels, total)
    )


def _leaks(
    scores: Mapping[str, NDArray[np.float64]], membership: NDArray[np.bool_]
) -> dict[Ways, float]:
    truth = membership.ravel()
    return {ways: auc(scores[ways.name].ravel(), truth).value - 0.5 for ways in EVERY_WAY}


def _shapley(leaks: Mapping[Ways, float], channel: int) -> float:
    n = len(CHANNELS)
    share = 0.0
    for ways in EVERY_WAY:
        if not ways[channel]:
            opened = sum(ways)
            weight = factorial(opened) * factorial(n - opened - 1) / factorial(n)
            share += weight * (leaks[_with(ways, channel, True)] - leaks[ways])
    return share


def _with(ways: Ways, channel: int, on: bool) -> Ways:
    return Ways(*(on if i == channel else value for i, value in enumerate(ways)))


def _only(channel: int) -> Ways:
    return _with(Ways(False, False, False), channel, True)


def _all_but(channel: int) -> Ways:
    return _with(Ways(True, True, True), channel, False)
