"""Attribute a student's leak to channels: the same shadows, with each channel open and closed.

Channels lead from the members to a student: the teacher's soft labels, and those of the synthesizer (the adapter and the
captions, say). All combinations are trained for every shadow (counterfactual students: hard labels, unadapted generator,
class-name prompts), every student of a shadow is attacked with those of the others, and the leak is shared among the
channels.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from math import factorial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from tckr.audit.results import Attribution, ChannelShare, StudentLeak
from tckr.audit.shadow_config import StudentConfig
from tckr.classifiers.options import LabelSource
from tckr.metrics import auc

SOFT_LABELS = "soft labels"
GROUPS = 20  # of examples, each left out once

Open = tuple[bool, ...]
"""Which channels are open: the soft labels first, then those of the synthesizer."""


def every_way(channels: Sequence[str]) -> list[Open]:
    """Return all combinations of open channels; `channels` are those of the synthesizer."""
    return list(product((False, True), repeat=1 + len(channels)))


def student_name(opened: Open, channels: Sequence[str]) -> str:
    """Return the name of a student by its open channels.

    >>> student_name((True, False, True), ("adapter", "captions"))
    'soft labels + captions'
    """
    names = [name for name, on in zip((SOFT_LABELS, *channels), opened, strict=True) if on]
    return " + ".join(names) if names else "nothing"


def set_name(opened: Open, channels: Sequence[str]) -> str:
    """Return the name of the synthetic set that a student with these open channels reads."""
    return f"set of {student_name((False, *opened[1:]), channels)}"


def sets(channels: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the synthetic sets of all students by name, each with the channels that are closed in it."""
    return {
        set_name(opened, channels): tuple(
            name for name, on in zip(channels, opened[1:], strict=True) if not on
        )
        for opened in every_way(channels)
    }


def student_configs(soft: LabelSource, channels: Sequence[str]) -> dict[str, StudentConfig]:
    """Return the students by name; `soft`: which labels open the first channel."""
    given: dict[bool, LabelSource] = {True: soft if soft != "hard" else "on_the_fly", False: "hard"}
    return {
        student_name(opened, channels): StudentConfig(set_name(opened, channels), given[opened[0]])
        for opened in every_way(channels)
    }


def attribute(
    scores: Mapping[str, NDArray[np.float64]],
    membership: NDArray[np.bool_],
    channels: Sequence[str],
    confidence: float = 0.95,
    clusters: NDArray[np.int64] | None = None,
    attack: str | None = None,
) -> Attribution:
    """Share the leak (AUC - 1/2) among the channels.

    A channel's share is its Shapley value (Shapley 1953): what opening it adds, averaged over the orders in which the
    channels are opened. The shares add up to the leak of all less that of none. Intervals: delete-a-group jackknife
    over examples (the same groups for every student, so that their common noise cancels), t with 19 degrees of freedom.

    Args:
        scores: (S, N) for each student by `student_name`: the attack on every shadow, see `leave_one_out`.
        membership: bool (S, N).
        channels: of the synthesizer.
        confidence: of the intervals.
        clusters: int (N,), the person behind each example where some have several; the jackknife leaves out people.
        attack: name of the attack behind the scores.

    >>> random = np.random.default_rng(0)
    >>> membership = random.random((4, 100)) < 0.5
    >>> noise, channels = random.normal(size=(4, 100)), ("adapter",)
    >>> scores = {student_name(way, channels): noise + way[1] * membership for way in every_way(channels)}
    >>> {row.channel: round(row.share, 2) for row in attribute(scores, membership, channels).channels}
    {'soft labels': 0.0, 'adapter': 0.26, 'all': 0.26}
    """
    ways, names = every_way(channels), (SOFT_LABELS, *channels)

    def leaks(columns: NDArray[Any]) -> dict[Open, float]:
        truth = membership[:, columns].ravel()
        return {
            way: auc(scores[student_name(way, channels)][:, columns].ravel(), truth).value - 0.5
            for way in ways
        }

    n = membership.shape[1]
    units = np.arange(n) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    groups = (np.random.default_rng(0).permutation(int(units.max()) + 1) % GROUPS)[units]
    whole = leaks(np.ones(n, dtype=bool))
    parts = [leaks(groups != g) for g in range(GROUPS)]

    def interval(of: Callable[[Mapping[Open, float]], float]) -> tuple[float, float, float]:
        """Return value, low and high."""
        value, replicates = of(whole), np.array([of(part) for part in parts])
        spread = replicates - replicates.mean()
        error = float(np.sqrt((GROUPS - 1) / GROUPS * (spread**2).sum()))
        width = float(t.ppf((1 + confidence) / 2, GROUPS - 1)) * error
        return value, value - width, value + width

    everything, nothing = ways[-1], ways[0]
    students = []
    for way in ways:
        leak, low, high = interval(lambda found, way=way: found[way])  # type: ignore[misc]
        opened = tuple(name for name, on in zip(names, way, strict=True) if on)
        name, area = student_name(way, channels), whole[way] + 0.5
        students.append(
            StudentLeak(student=name, opened=opened, auc=area, leak=leak, low=low, high=high)
        )
    shares = []
    for i, name in enumerate(names):
        share, low, high = interval(lambda found, i=i: _shapley(found, i))  # type: ignore[misc]
        alone = whole[_with(nothing, i, True)]
        without = whole[everything] - whole[_with(everything, i, False)]
        shares.append(
            ChannelShare(
                channel=name, share=share, low=low, high=high, alone=alone, without=without
            )
        )
    share, low, high = interval(lambda found: found[everything] - found[nothing])
    total = ChannelShare(
        channel="all", share=share, low=low, high=high, alone=whole[everything], without=None
    )
    return Attribution(
        n_shadows=len(membership),
        attack=attack,
        students=tuple(students),
        channels=(*shares, total),
    )


def _shapley(leaks: Mapping[Open, float], channel: int) -> float:
    n = len(next(iter(leaks)))
    share = 0.0
    for way in leaks:
        if not way[channel]:
            opened = sum(way)
            weight = factorial(opened) * factorial(n - opened - 1) / factorial(n)
            share += weight * (leaks[_with(way, channel, True)] - leaks[way])
    return share


def _with(way: Open, channel: int, on: bool) -> Open:
    return tuple(on if i == channel else value for i, value in enumerate(way))
