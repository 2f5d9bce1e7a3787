"""Record what mechanisms see before their noise, so that tests can prove sensitivities on neighbouring private sets.

Every mechanism passes through `answer`. A test runs the same code on a private set and, with the first run's answers
replayed, on the set without one image: both runs then ask the same questions, and no statistic may differ by more than
its entry declares (after Gomez-Obando et al., arXiv 2602.17454).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from tckr.dp.accounting import Mechanism

T = TypeVar("T")


class Answer(NamedTuple):
    """One noisy answer.

    Attributes:
        entry: the mechanism.
        statistic: float64 (K,), before the noise.
        output: what the caller got.
    """

    entry: Mechanism
    statistic: NDArray[np.float64]
    output: Any


class _Session(NamedTuple):
    answers: list[Answer]
    replayed: Iterator[Answer] | None


_session: ContextVar[_Session | None] = ContextVar("_session", default=None)


@contextmanager
def recording(replay: Sequence[Answer] | None = None) -> Iterator[list[Answer]]:
    """Record every answer given inside, un-noised statistic and all: for tests, never for a run.

    Args:
        replay: answers of another run, which are given again, in their order, instead of new ones.

    Yields:
        The list that fills with the answers.
    """
    answers: list[Answer] = []
    token = _session.set(_Session(answers, None if replay is None else iter(replay)))
    try:
        yield answers
    finally:
        _session.reset(token)


def answer(entry: Mechanism, statistic: Any, noisy: Callable[[], T]) -> T:
    """Return the noisy statistic; inside `recording` also keep it, or give back the one to replay.

    Args:
        entry: the mechanism that asks.
        statistic: tensor or array before the noise.
        noisy: makes the noisy one.
    """
    session = _session.get()
    if session is None:
        return noisy()
    if session.replayed is None:
        output = noisy()
    else:
        given = next(session.replayed, None)
        if given is None or getattr(given.entry, "name", None) != getattr(entry, "name", None):
            raise ValueError(
                "the two runs asked different questions: something un-noised steered them"
            )
        output = given.output
    plain = statistic.detach().cpu().numpy() if hasattr(statistic, "detach") else statistic
    session.answers.append(Answer(entry, np.array(plain, np.float64).ravel(), output))
    return output


def check_sensitivity(
    first: Sequence[Answer], second: Sequence[Answer], tolerance: float = 1e-6
) -> dict[str, float]:
    """Check on two runs on neighbouring sets that no statistic changed by more than its entry declares.

    Args:
        first: answers on a private set.
        second: on the same set less one image, with `recording(replay=first)`.
        tolerance: relative, for the rounding of the test's own sums.

    Returns:
        The largest L2 change of each mechanism, by name.

    Raises:
        ValueError: a statistic changed by more than declared, or the two runs asked different questions, or a
            mechanism answered more often than its steps.
    """
    if len(first) != len(second):
        raise ValueError(f"one run asked {len(first)} questions, the other {len(second)}")
    changes: dict[str, float] = {}
    counts: dict[str, int] = {}
    for ours, theirs in zip(first, second, strict=True):
        entry = ours.entry
        name = getattr(entry, "name", entry.mechanism)
        if ours.statistic.shape != theirs.statistic.shape:
            raise ValueError(f"'{name}' has a statistic whose size depends on the private set")
        change = float(np.linalg.norm(ours.statistic - theirs.statistic))
        changes[name] = max(change, changes.get(name, 0.0))
        counts[name] = counts.get(name, 0) + 1
        if not change <= entry.sensitivity * (1 + tolerance):
            raise ValueError(
                f"'{name}' declares sensitivity {entry.sensitivity:g}, but one image changed it by {change:g}"
            )
        if counts[name] > entry.steps:
            raise ValueError(f"'{name}' declares {entry.steps} steps, but answered more often")
    return changes
