"""The audit of one model: what its outputs tell about who was in its training set."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tckr import metrics
from tckr.attacks import ATTACKS
from tckr.attacks.qmia import MIN_REFERENCE
from tckr.attacks.registry import scores
from tckr.audit.membership import fingerprint
from tckr.audit.options import FEWEST_TO_LEAVE_ONE_OUT, AuditOptions, Scope
from tckr.audit.vulnerability import leave_one_out

VERSION = 2  # of the report's layout

SCOPE_NOTES: dict[str, str] = {
    "classifier": "Each shadow retrains the classifier on another half of members and holdout.",
    "distillation": (
        "Each shadow retrains the teacher on another half of members and holdout, and the student"
        " from that teacher's labels. The released images and their captions are held fixed: what"
        " they themselves leak is not measured by this attack."
    ),
    "pipeline": (
        "Each shadow repeats everything on another half of members and holdout: adapter, synthetic"
        " images, teacher, labels, student."
    ),
}

# Of the canaries, the share that the one-run bound guesses: those with the highest and lowest scores.
GUESSED = 0.5


def audit(
    target: ArrayLike,
    shadow: ArrayLike,
    membership: NDArray[np.bool_],
    is_member: NDArray[np.bool_],
    *,
    accuracy_percent: float,
    options: AuditOptions,
    scope: Scope,
    features: NDArray[np.float32] | None = None,
    canary: NDArray[np.bool_] | None = None,
) -> dict[str, Any]:
    """Attack one model and say how sure the answer is.

    Args:
        target: (N, Q), logit-scaled confidences of the audited model.
        shadow: (S, N, Q), those of its shadows (of the same scope).
        membership: bool (S, N), training sets of the shadows.
        is_member: bool (N,), the real training set.
        accuracy_percent: of the model on the test split.
        options: names the attack of record.
        scope: what each shadow repeated.
        features: float32 (N, D) of the images; without them, or with fewer than 50 non-members to
            learn from, QMIA is left out.
        canary: bool (N,), mislabelled examples, whose figures stand apart too.

    Returns:
        JSON-able: `scope` with its `scope_note`, the design, and under `attacks` for each attack
        its figures (see `figures`); those of the attack of record stand at the top too. `canaries`
        is None without any.
    """
    seen, others = np.asarray(target, dtype=np.float64), np.asarray(shadow, dtype=np.float64)

    def attack(name: str) -> NDArray[np.float64]:
        return scores(
            name,
            seen,
            others,
            membership,
            variance=options.variance,
            features=features,
            reference=~is_member,
        )

    names = [options.attack, *(name for name in ATTACKS if name != options.attack)]
    few_reference = (~is_member).sum() < MIN_REFERENCE
    names = [
        name
        for name in names
        if not ATTACKS[name].needs_features
        or (features is not None and (name == options.attack or not few_reference))
    ]
    of_attack = {name: attack(name) for name in names}
    found = {
        name: figures(values, is_member, options, accuracy_percent) | {"label": ATTACKS[name].title}
        for name, values in of_attack.items()
    }
    marked = canary is not None and bool(canary.any())
    return {
        "scope": scope,
        "scope_note": SCOPE_NOTES[scope],
        "attack_of_record": options.attack,
        "variance": options.variance,
        "queries": 1 if seen.ndim == 1 else seen.shape[1],
        "n_shadows": len(membership),
        "membership_hash": fingerprint(membership),
        "shadow_training_images": float(membership.sum(1).mean()),
        "n_members": int(is_member.sum()),
        "n_non_members": int((~is_member).sum()),
        "accuracy": accuracy_percent,
        **found[options.attack],
        "attacks": found,
        "canaries": _canaries(
            of_attack[options.attack], others, membership, is_member, canary, options
        )
        if marked and canary is not None
        else None,
    }


def figures(
    values: NDArray[np.float64],
    is_member: NDArray[np.bool_],
    options: AuditOptions,
    accuracy_percent: float | None = None,
    clusters: NDArray[np.int64] | None = None,
) -> dict[str, Any]:
    """Every statistic of one attack's scores (N,), each with its interval; JSON-able.

    Returns:
        `auc` with `no_leak`; `tpr` at the first of the options' rates and `tprs` at all, each with
        its `ppv` at the priors; `epsilon`, a lower bound (None for clusters: they are no independent
        examples); with an accuracy `aop`.
    """
    confidence = options.confidence
    area = metrics.auc(values, is_member, confidence, clusters)
    rates = [
        metrics.tpr_at_fpr(values, is_member, fpr, confidence, clusters) for fpr in options.fprs
    ]
    tprs = [
        rate.to_dict() | {"ppv": [metrics.ppv(rate, prior).to_dict() for prior in options.priors]}
        for rate in rates
    ]
    epsilon = None
    if clusters is None:
        bound = metrics.epsilon_lower_bound(values, is_member, options.delta, confidence)
        epsilon = bound.to_dict() | {"delta": options.delta}
    found: dict[str, Any] = {
        "auc": area.to_dict() | {"no_leak": metrics.no_leak(area)},
        "tpr": tprs[0],
        "tprs": tprs,
        "epsilon": epsilon,
    }
    if accuracy_percent is not None:
        found["aop"] = metrics.accuracy_over_privacy(accuracy_percent, area).to_dict()
    return found


def over_shadows(
    shadow: NDArray[np.float64], membership: NDArray[np.bool_], options: AuditOptions
) -> NDArray[np.float64]:
    """Scores (S, N) of the attack of record on every shadow, with the others as its shadows."""
    name = "threshold" if ATTACKS[options.attack].needs_features else options.attack
    return leave_one_out(
        shadow,
        membership,
        lambda target, others, inside: scores(
            name, target, others, inside, variance=options.variance
        ),
    )


def _canaries(
    values: NDArray[np.float64],
    shadow: NDArray[np.float64],
    membership: NDArray[np.bool_],
    is_member: NDArray[np.bool_],
    canary: NDArray[np.bool_],
    options: AuditOptions,
) -> dict[str, Any]:
    """Figures of the mislabelled examples alone (Aerni et al., arXiv 2404.17399), and the one-run bound.

    `over_shadows` attacks every shadow in turn: S scores a canary, which makes lower rates
    measurable than the target's alone do.
    """
    inside, count = is_member[canary], int(canary.sum())
    found: dict[str, Any] = {
        "count": count,
        "members": int(inside.sum()),
        **figures(values[canary], inside, options),
        "one_run": metrics.one_run_bound(
            values[canary],
            inside,
            max(1, round(GUESSED * count)),
            options.delta,
            options.confidence,
        ).to_dict(),
        "over_shadows": None,
    }
    if len(membership) >= FEWEST_TO_LEAVE_ONE_OUT:
        pooled = over_shadows(shadow, membership, options)[:, canary]
        clusters = np.broadcast_to(np.arange(count), pooled.shape).ravel()
        found["over_shadows"] = figures(
            pooled.ravel(), membership[:, canary].ravel(), options, clusters=clusters
        )
    return found
