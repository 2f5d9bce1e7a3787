"""Whether the private set has enough images of every class for the audit's shadows, told before anything is trained."""

from math import exp, lgamma
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tckr.audit.membership import membership_matrix
from tckr.audit.options import AuditOptions
from tckr.audit.tables import people
from tckr.engine.seeds import derive
from tckr.errors import UserError
from tckr.images.names import one_line
from tckr.images.tables import class_names, of_split

LIKELY = 0.05  # probability that some shadow lacks some class, above which a run whose shadows are not yet drawn stops
NAMED = 5


def check_classes(images: pd.DataFrame, options: AuditOptions, seed: int) -> None:
    """Check that every shadow will train on images of every class, by the very draw that the audit will make.

    With a time budget the number of shadows, and so their draw, is not known yet; then the probability decides.

    Args:
        images: image table of the private set.
        options: of the audit.
        seed: of the run.

    Raises:
        UserError: a shadow would train without a class; the message names the classes with the fewest images.
    """
    audited = of_split(images, "members", "holdout")
    labels = audited["label"].to_numpy(dtype=np.int64)
    names = class_names(images)
    counts = np.bincount(labels, minlength=len(names))
    shadows = options.n_shadows
    persons = people(audited)
    if options.time_budget_minutes is None:
        drawn = membership_matrix(len(labels), shadows, 0.5, derive(seed, "membership"), persons)
        lacking = classes_lacking(labels, drawn)
        if not lacking:
            return
        number, absent = next(iter(lacking.items()))
        problem = (
            f"Shadow {number} of {shadows} would train without {_named(absent, names, counts)}."
        )
    else:
        # People are drawn whole: a class is as rare as the people who have it.
        of_people, units = counts, len(labels)
        if persons is not None:
            pairs = np.unique(np.stack([labels, persons]), axis=1)
            of_people, units = np.bincount(pairs[0], minlength=len(names)), len(np.unique(persons))
        p = probability_of_lacking(of_people[of_people > 0], shadows, units)
        if p <= LIKELY:
            return
        rarest = min(np.flatnonzero(counts), key=lambda number: counts[number])
        problem = (
            f"With a probability of {100 * p:.0f} % one of {shadows} shadows would train without a class, most likely"
            f" {_named([int(rarest)], names, counts)}."
        )
    raise UserError(
        f"{problem} Each shadow trains on half of the members and holdout images.",
        "add images of that class or leave it out, give ingestion.members and ingestion.holdout more of the images, or"
        " take fewer privacy_audit.n_shadows or another seed.",
    )


def classes_lacking(
    labels: NDArray[np.int64], membership: NDArray[np.bool_]
) -> dict[int, list[int]]:
    """Return the classes that each shadow would train without, by the shadow's number; empty if none lacks any.

    Args:
        labels: (N,).
        membership: (S, N), True where the shadow trains on the image.

    >>> classes_lacking(np.array([0, 0, 1]), np.array([[True, False, True], [True, True, False]]))
    {1: [1]}
    """
    present = np.unique(labels)
    lacking = {
        number: np.setdiff1d(present, labels[row]).tolist() for number, row in enumerate(membership)
    }
    return {number: absent for number, absent in lacking.items() if absent}


def probability_of_lacking(counts: Any, n_shadows: int, total: int | None = None) -> float:
    """Return the probability (a union bound, at most 1) that some shadow trains without some class.

    Args:
        counts: members and holdout images of each class, or the people who have such images.
        n_shadows: each trains on half of all of them.
        total: images, or people, in all; None if each has one class.

    >>> round(probability_of_lacking([500, 500], 8), 6), probability_of_lacking([2, 98], 8) > 0.5
    (0.0, True)
    """
    total = int(sum(counts)) if total is None else total
    half = total // 2

    def log_ways(n: int, k: int) -> float:
        return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)

    absent = [
        exp(log_ways(total - int(count), half) - log_ways(total, half))
        for count in counts
        if total - count >= half
    ]
    return min(1.0, n_shadows * sum(absent))


def _named(numbers: list[int], names: list[str], counts: NDArray[np.int64]) -> str:
    shown = ", ".join(
        f"class {one_line(names[number])!r} ({counts[number]:,} members and holdout images)"
        for number in numbers[:NAMED]
    )
    more = len(numbers) - NAMED
    return f"{shown} and {more:,} more" if more > 0 else shown
