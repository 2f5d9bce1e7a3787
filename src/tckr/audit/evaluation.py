"""Every statistic of one attack's scores, each with its interval."""

from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from tckr import metrics
from tckr.attacks import ATTACKS
from tckr.audit.attack_results import (
    AttackResult,
    Auc,
    Epsilon,
    Interval,
    Ppv,
    Roc,
    Separation,
    Tpr,
)
from tckr.audit.options import AuditOptions

# The one-run bound guesses this share of the examples, those with the highest and lowest scores, and this one of the
# canaries, whose membership is plainer. Both are fixed before any score is seen.
GUESSED, GUESSED_CANARIES = 0.1, 0.5


def evaluate(
    name: str,
    label: str,
    values: NDArray[np.float64],
    is_member: NDArray[np.bool_],
    options: AuditOptions,
    accuracy_percent: float | None = None,
    clusters: NDArray[np.int64] | None = None,
) -> AttackResult:
    """Compute every statistic of one attack's scores, each with its interval.

    Args:
        name: of the attack.
        label: the attack in words.
        values: (N,) scores of the attack, larger = more likely a member.
        is_member: bool (N,).
        options: rates, priors, delta and confidence.
        accuracy_percent: of the attacked model; without it there is no AOP.
        clusters: int (N,), the example behind each score where one example has several, or the person
            behind each example where one person has. Such scores are not independent of one another:
            intervals come from a bootstrap of whole clusters, and there is neither a lower bound of epsilon nor a separation.

    QMIA, which learns from known non-members, gets no epsilon: the bound takes who is one for hidden from the guesses.
    """
    confidence = options.confidence
    area = metrics.auc(values, is_member, confidence, clusters)
    rates = [
        metrics.tpr_at_fpr(values, is_member, fpr, confidence, clusters) for fpr in options.fprs
    ]
    epsilon = separation = None
    if clusters is None:
        if not reads_membership(name):
            epsilon = one_run(values, is_member, GUESSED, options)
        separation = Separation(**asdict(metrics.separation(values, is_member)))
    aop = None
    if accuracy_percent is not None:
        aop = Interval.of(metrics.accuracy_over_privacy(accuracy_percent, area))
    return AttackResult(
        name=name,
        label=label,
        auc=Auc.of(area),
        covers_half=metrics.covers_half(area),
        tprs=tuple(
            Tpr.of(rate, ppv=[Ppv.of(metrics.ppv(rate, prior)) for prior in options.priors])
            for rate in rates
        ),
        epsilon=epsilon,
        aop=aop,
        separation=separation,
    )


def coarse_roc(values: NDArray[np.float64], is_member: NDArray[np.bool_]) -> Roc:
    """Return the ROC curve of an attack's scores (N,), as it may be published."""
    fpr, tpr = metrics.coarse_roc(values, is_member)
    return Roc(fpr=tuple(fpr.tolist()), tpr=tuple(tpr.round(6).tolist()))


def one_run(
    values: NDArray[np.float64],
    is_member: NDArray[np.bool_],
    share: float,
    options: AuditOptions,
) -> Epsilon:
    """Bound epsilon by guessing who is a member for a share of the examples, fixed beforehand; see `one_run_bound`.

    The bound is for fair coins: of the larger side as many are drawn, by a fixed seed, as there are on the other.
    """
    sides = [np.flatnonzero(is_member), np.flatnonzero(~is_member)]
    fewest = min(map(len, sides))
    random = np.random.default_rng(0)
    chosen = np.concatenate([random.permutation(side)[:fewest] for side in sides])
    guesses = max(1, round(share * len(chosen)))
    bound = metrics.one_run_bound(
        values[chosen], is_member[chosen], guesses, options.delta, options.confidence
    )
    return Epsilon.of(bound, delta=options.delta)


def reads_membership(name: str) -> bool:
    """Whether an attack is told who is no member, so that no bound of epsilon can come of its guesses."""
    return name in ATTACKS and "reference" in ATTACKS[name].needs
