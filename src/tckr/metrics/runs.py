"""Figures of a recipe: several runs of it attacked, so that both the runs and the examples are a sample.

Runs differ by more than the interval of one run says: that holds for its examples alone. Here the examples of all runs are the
same, and variances are clustered both ways.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, rankdata, t

from tckr.errors import UserError
from tckr.metrics.estimate import (
    FEWEST_FALSE_POSITIVES,
    AucEstimate,
    TprEstimate,
    on_logit_scale,
)
from tckr.metrics.rates import worth_of


class RunsAuc(NamedTuple):
    """AUC of a recipe.

    Attributes:
        estimate: the mean AUC of its runs; the interval is for further runs on further examples.
        runs: (S,), the AUC of each.
        between: standard deviation of the runs' AUCs.
        of_one: standard error that DeLong's method gives to one run, which leaves out that runs differ.
    """

    estimate: AucEstimate
    runs: tuple[float, ...]
    between: float
    of_one: float


def auc_of_runs(
    scores: ArrayLike,
    membership: ArrayLike,
    confidence: float = 0.95,
    clusters: ArrayLike | None = None,
) -> RunsAuc:
    """Estimate the mean AUC of runs that attacked the same examples.

    The variance is that of examples plus that of runs less that of single scores, which both contain (Cameron, Gelbach and
    Miller, JBES 2011), from DeLong's structural components; degrees of freedom after Satterthwaite (1946).

    Args:
        scores: (S, N), larger = more likely a member; S of at least 2.
        membership: bool (S, N), who was a member in each run.
        confidence: of the interval, on the logit scale.
        clusters: int (N,), the person behind each example where some have several.

    Raises:
        UserError: shapes that do not fit, NaN, fewer than two runs, or a run without members or non-members.

    >>> random = np.random.default_rng(0)
    >>> membership = random.random((8, 500)) < 0.5
    >>> found = auc_of_runs(random.normal(size=(8, 500)) + membership, membership)
    >>> len(found.runs), found.estimate.low > 0.7
    (8, True)
    """
    values, member = _matrices(scores, membership)
    s, n = values.shape
    people = np.arange(n) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    areas = np.empty(s)
    influence = np.zeros((s, int(people.max()) + 1))
    for run, (row, inside) in enumerate(zip(values, member, strict=True)):
        areas[run], own = _components(row, inside)
        influence[run] = np.bincount(people, own, influence.shape[1])
    mean = float(areas.mean())
    of_examples = float((influence.mean(0) ** 2).sum())
    of_runs = float(areas.var(ddof=1) / s)
    of_scores = float((influence**2).sum()) / s**2
    variance = max(of_examples + of_runs - of_scores, of_examples)
    if 0 < mean < 1 and variance > 0:
        freedom = variance**2 / (of_runs**2 / (s - 1) + of_examples**2 / (influence.shape[1] - 1))
        quantile = float(t.ppf((1 + confidence) / 2, max(freedom, 1.0)))
        low, high = on_logit_scale(mean, math.sqrt(variance), quantile)
    else:
        low, high = (0.0, 1.0) if 0 < mean < 1 else (mean, mean)
        margin = 1 - ((1 - confidence) / 2) ** (1 / max(1, influence.shape[1] // 2))
        low, high = max(0.0, low - margin), min(1.0, high + margin)
    estimate = AucEstimate(
        mean,
        low,
        high,
        confidence,
        f"mean of {s} runs, clustered by run and by example, logit scale",
        int(member.sum()),
        int((~member).sum()),
        influence.shape[1],
    )
    of_one = math.sqrt(float((influence**2).sum(1).mean()))
    return RunsAuc(estimate, tuple(areas.tolist()), float(areas.std(ddof=1)), of_one)


def tpr_of_runs(
    scores: ArrayLike,
    membership: ArrayLike,
    fpr: float,
    confidence: float = 0.95,
    clusters: ArrayLike | None = None,
    resamples: int = 200,
    seed: int = 0,
) -> TprEstimate:
    """Estimate the true-positive rate of a recipe at one threshold for all of its runs.

    The interval is that of a bootstrap that draws runs and examples both (Owen, AOAS 2007: never narrower than the truth in
    the long run), on the logit scale. Whether the rate is measurable is decided as by `tpr_at_fpr` of clusters.

    Args:
        scores: (S, N).
        membership: bool (S, N).
        fpr: in (0, 1).
        confidence: of the interval.
        clusters: as for `auc_of_runs`.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    values, member = _matrices(scores, membership)
    s, n = values.shape
    people = np.arange(n) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    n_people = int(people.max()) + 1
    order = np.argsort(-values, axis=None, kind="stable")
    ordered, inside = values.ravel()[order], member.ravel()[order]
    # Ends of equal scores, which are called together or not at all.
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    of_run, of_person = order // n, people[order % n]

    def rates(weights: NDArray[np.float64]) -> tuple[float, float, float, float]:
        called_in = np.cumsum(weights * inside)
        called_out = np.cumsum(weights * ~inside)
        allowed = fpr * called_out[-1] + 1e-9
        place = int(np.searchsorted(called_out[ends], allowed, "right")) - 1
        if place < 0:
            return 0.0, 0.0, called_in[-1], called_out[-1]
        return called_in[ends[place]], called_out[ends[place]], called_in[-1], called_out[-1]

    found, false, m, out = rates(np.ones(len(ordered)))
    random = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples):
        runs = np.bincount(random.integers(s, size=s), minlength=s)
        persons = np.bincount(random.integers(n_people, size=n_people), minlength=n_people)
        hits, _, of, _ = rates((runs[of_run] * persons[of_person]).astype(np.float64))
        if of > 0:
            # Half a hit more and a miss more: the logarithm of the odds stays finite.
            drawn.append(math.log((hits + 0.5) / (of - hits + 0.5)))
    value = found / m
    centre, spread = math.log((found + 0.5) / (m - found + 0.5)), float(np.std(drawn, ddof=1))
    width = float(t.ppf((1 + confidence) / 2, s - 1) if s < 30 else norm.ppf((1 + confidence) / 2))
    low, high = (
        1 / (1 + math.exp(-end)) for end in (centre - width * spread, centre + width * spread)
    )
    outside = ~member.ravel()
    worth = worth_of(values.ravel()[outside], np.tile(people, s)[outside], fpr)
    measurable = min(fpr * out, worth) >= FEWEST_FALSE_POSITIVES - 1e-9
    return TprEstimate(
        value=value,
        low=min(low, value),
        high=max(high, value),
        confidence=confidence,
        method=f"bootstrap of runs and examples, logit scale, {resamples:,} draws",
        fpr=fpr,
        realised_fpr=false / out,
        false_positives=int(false),
        true_positives=int(found),
        n_members=int(m),
        n_non_members=int(out),
        n_clusters=n_people,
        measurable=measurable,
    )


def _components(
    scores: NDArray[np.float64], inside: NDArray[np.bool_]
) -> tuple[float, NDArray[np.float64]]:
    """Return a run's AUC and the influence of every example on it, (N,); their squares sum to DeLong's variance."""
    members, others = scores[inside], scores[~inside]
    m, n = len(members), len(others)
    ranks = rankdata(np.concatenate([members, others]))
    # DeLong et al. 1988: the share of non-members that each member beats, and of members that beat each non-member.
    of_members = (ranks[:m] - rankdata(members)) / n
    of_others = 1 - (ranks[m:] - rankdata(others)) / m
    area = float(of_members.mean())
    influence = np.empty(len(scores))
    influence[inside], influence[~inside] = (of_members - area) / m, (of_others - area) / n
    return area, influence


def _matrices(
    scores: ArrayLike, membership: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    values, member = np.asarray(scores, dtype=np.float64), np.asarray(membership, dtype=bool)
    if values.ndim != 2 or values.shape != member.shape or len(values) < 2:
        raise UserError(
            f"Scores {values.shape} and membership {member.shape} are not those of several runs.",
            "give (S, N) of each, S of 2 or more.",
        )
    if np.isnan(values).any() or member.all(1).any() or not member.any(1).all():
        raise UserError(
            "A score is NaN, or a run has no members or no non-members.",
            "check the attack and the membership matrix.",
        )
    return values, member
