"""Audit one model: how well can its outputs tell members of its training set from non-members?"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tckr import metrics
from tckr.attacks import ATTACKS
from tckr.attacks.qmia import MIN_REFERENCE
from tckr.attacks.registry import scores
from tckr.audit.attack_results import (
    AttackResult,
    Auc,
    Interval,
    Ppv,
    Tpr,
)
from tckr.audit.evaluation import GUESSED_CANARIES, coarse_roc, evaluate, one_run, reads_membership
from tckr.audit.groups import exposed_groups
from tckr.audit.membership import fingerprint
from tckr.audit.options import FEWEST_TO_LEAVE_ONE_OUT, AuditOptions, Scope
from tckr.audit.things import Canaries, ModelAudit, Recipe, Transferred
from tckr.audit.vulnerability import leave_one_out
from tckr.classifiers.options import LabelSource
from tckr.errors import UserError

SCOPE_NOTES: dict[Scope, str] = {
    "classifier": "Each shadow retrains the classifier on another half of members and holdout.",
    "distillation": (
        "Each shadow retrains the teacher on another half of members and holdout, and the student on"
        " that teacher's labels. The released images and their captions are held fixed: what they"
        " leak by themselves is not measured by this attack."
    ),
    "pipeline": (
        "Each shadow repeats everything on another half of members and holdout: adapter, synthetic"
        " images, teacher, labels, student."
    ),
}


def audit(
    target_scores: ArrayLike,
    shadow_scores: ArrayLike,
    membership: NDArray[np.bool_],
    is_member: NDArray[np.bool_],
    *,
    accuracy_percent: float | None,
    options: AuditOptions,
    scope: Scope,
    features: NDArray[np.float32] | None = None,
    canary: NDArray[np.bool_] | None = None,
    clusters: NDArray[np.int64] | None = None,
    labels: LabelSource | None = None,
    classes: NDArray[np.object_] | None = None,
    note: str = "",
) -> ModelAudit:
    """Attack one model with every attack and return the figures with their intervals.

    >>> from tckr.audit.membership import membership_matrix
    >>> from tckr.audit.options import AuditOptions, ReleaseThreat
    >>> random = np.random.default_rng(0)
    >>> is_member = np.arange(400) < 200
    >>> membership = membership_matrix(400, n_shadows=8, inclusion=0.5, seed=0)
    >>> found = audit(
    ...     random.normal(size=400) + 2 * is_member,  # the model scores its members 2 higher
    ...     random.normal(size=(8, 400)) + 2 * membership,
    ...     membership,
    ...     is_member,
    ...     accuracy_percent=90.0,
    ...     options=AuditOptions(attack="rmia", release=ReleaseThreat(encoder="not used here")),
    ...     scope="classifier",
    ... )
    >>> found.primary.name, found.primary.auc.low > 0.5, found.primary.covers_half
    ('rmia', True, False)

    Args:
        target_scores: (N,) or (N, Q), logit-scaled confidences of the audited model.
        shadow_scores: (S, N) or (S, N, Q), those of its shadows, which repeated the same scope.
        membership: bool (S, N), training sets of the shadows.
        is_member: bool (N,), training set of the audited model.
        accuracy_percent: of the model on the test split; None, and there is no AOP, for an attacker's own model.
        options: names the primary attack.
        scope: what each shadow repeated.
        features: float32 (N, D) of the images, for QMIA; without them, or with fewer than 50
            non-members to learn from, QMIA is left out unless it is the primary attack.
        canary: bool (N,), mislabelled examples, which are also attacked alone.
        clusters: int (N,), the person behind each example where some have several; see `evaluate`.
        labels: those that a student was trained on; None for a teacher. See `blind`.
        classes: (N,), the class of each example by name, for figures by class.
        note: sentences on what the shadows did otherwise than the target.

    Raises:
        UserError: scores with NaN, shapes that do not fit, an attack that refuses them, or a primary attack without the
            features that it needs.
    """
    target = np.asarray(target_scores, dtype=np.float64)
    shadow = np.asarray(shadow_scores, dtype=np.float64)
    if ATTACKS[options.attack].needs_features and features is None:
        raise UserError(
            f"The primary attack {options.attack} needs features of the images, and there are none.",
            "give them, or name another privacy_audit.attack.",
        )
    few_reference = (~is_member).sum() < MIN_REFERENCE
    names = [
        name
        for name in (options.attack, *(name for name in ATTACKS if name != options.attack))
        if not ATTACKS[name].needs_features
        or (features is not None and (name == options.attack or not few_reference))
    ]
    attack_scores = {
        name: scores(
            name,
            target,
            shadow,
            membership,
            variance=options.variance,
            features=features,
            reference=~is_member,
        )
        for name in names
    }
    canaries = None
    if canary is not None and canary.any():
        primary = attack_scores[options.attack]
        canaries = _canaries(primary, shadow, membership, is_member, canary, options, clusters)
    why = blind(scope, labels)
    return ModelAudit(
        shows="nothing" if why else "both",
        limits=why,
        scope=scope,
        scope_note=" ".join(
            filter(None, (SCOPE_NOTES[scope], note, _uneven(membership, is_member)))
        ),
        primary_attack=options.attack,
        variance=options.variance,
        queries=1 if target.ndim == 1 else target.shape[1],
        n_shadows=len(membership),
        membership_hash=fingerprint(membership),
        shadow_training_images=float(membership.sum(1).mean()),
        n_members=int(is_member.sum()),
        n_non_members=int((~is_member).sum()),
        accuracy=accuracy_percent,
        attacks={
            name: evaluate(
                name, ATTACKS[name].title, values, is_member, options, accuracy_percent, clusters
            )
            for name, values in attack_scores.items()
        },
        roc=coarse_roc(attack_scores[options.attack], is_member),
        canaries=canaries,
        groups=()
        if why
        else exposed_groups(
            attack_scores[options.attack],
            is_member,
            shadow,
            membership,
            options,
            classes,
            clusters,
        ),
        recipe=None
        if why
        else of_recipe(
            shadow, membership, options, clusters, attack_scores[options.attack], is_member
        ),
    )


def of_recipe(
    shadow_scores: NDArray[np.float64],
    membership: NDArray[np.bool_],
    options: AuditOptions,
    clusters: NDArray[np.int64] | None = None,
    values: NDArray[np.float64] | None = None,
    is_member: NDArray[np.bool_] | None = None,
) -> Recipe | None:
    """Attack every shadow with the others: what the recipe leaks, beside what one run of it did.

    Args:
        shadow_scores: (S, N) or (S, N, Q).
        membership: bool (S, N).
        options: names the attack, rates and confidence.
        clusters: int (N,), the person behind each example where some have several.
        values: (N,), the same attack on the target, to which the shadows' threshold is carried over.
        is_member: bool (N,), of the target.

    Returns:
        None with fewer than six shadows.
    """
    if len(membership) < FEWEST_TO_LEAVE_ONE_OUT:
        return None
    name = attack_on_shadows(options)
    of_shadows = over_shadows(shadow_scores, membership, options)
    found = metrics.auc_of_runs(of_shadows, membership, options.confidence, clusters)
    rates = [
        metrics.tpr_of_runs(of_shadows, membership, fpr, options.confidence, clusters)
        for fpr in options.fprs
    ]
    attack = AttackResult(
        name=name,
        label=ATTACKS[name].title,
        auc=Auc.of(found.estimate),
        covers_half=metrics.covers_half(found.estimate),
        tprs=tuple(
            Tpr.of(rate, ppv=[Ppv.of(metrics.ppv(rate, prior)) for prior in options.priors])
            for rate in rates
        ),
        epsilon=None,
    )
    transferred = None
    if values is not None and is_member is not None and clusters is None and name == options.attack:
        transferred = _transferred(of_shadows[~membership], values, is_member, options)
    return Recipe(
        attack=attack,
        runs=found.runs,
        between=found.between,
        of_one=found.of_one,
        transferred=transferred,
    )


def _transferred(
    of_others: NDArray[np.float64],
    values: NDArray[np.float64],
    is_member: NDArray[np.bool_],
    options: AuditOptions,
) -> Transferred:
    """Count the target's examples above the threshold that the headline share of the shadows' non-members exceeds."""
    fpr = options.fprs[0]
    cut = float(np.quantile(of_others, 1 - fpr, method="higher"))

    def share(side: NDArray[np.bool_]) -> Interval:
        above, of = int((values[side] > cut).sum()), int(side.sum())
        low, high = metrics.clopper_pearson(above, of, options.confidence)
        return Interval(
            value=above / of,
            low=low,
            high=high,
            confidence=options.confidence,
            method="Clopper-Pearson at the shadows' threshold",
        )

    return Transferred(fpr=fpr, found=share(is_member), false_alarms=share(~is_member))


UNEVEN = 1.05  # members over a shadow's images, or the reverse, from which a difference is said


def _uneven(membership: NDArray[np.bool_], is_member: NDArray[np.bool_]) -> str:
    """Say that the shadows' training sets are not as large as the target's; empty if they are."""
    own, members = float(membership.sum(1).mean()), int(is_member.sum())
    if max(own / members, members / own) < UNEVEN:
        return ""
    return (
        f"Members and holdout are not equally many: a shadow trains on {own:,.0f} images, the target did on {members:,}. Their"
        " teachers see each image as often, but a model of more images knows each less well: every calibrated attack is off by"
        " that. Give ingestion.members and ingestion.holdout the same number."
    )


def blind(scope: Scope, labels: LabelSource | None) -> str:
    """Return why the attack on a student cannot see any leak of it; empty if it can.

    >>> blind("distillation", "on_the_fly"), blind("pipeline", "hard")
    ('', '')
    """
    if scope != "distillation" or labels != "hard":
        return ""
    return (
        "The student was trained on the released images with hard labels, and so was every shadow, on the same ones: which"
        " examples a shadow's teacher saw makes no difference to it, so that the AUC is 50 % whatever the images give away."
        " Measure with privacy_audit.scope: pipeline."
    )


def attack_on_shadows(options: AuditOptions) -> str:
    """Return the attack that `over_shadows` runs: the primary one, or the threshold in place of QMIA."""
    return options.attack if options.attack != "qmia" else "threshold"


def over_shadows(
    shadow_scores: NDArray[np.float64], membership: NDArray[np.bool_], options: AuditOptions
) -> NDArray[np.float64]:
    """Attack every shadow in turn, with the others as its shadows.

    Args:
        shadow_scores: (S, N) or (S, N, Q).
        membership: bool (S, N).
        options: names the attack, see `attack_on_shadows`.

    Returns:
        float64 (S, N), attack scores; see `leave_one_out`.
    """
    name = attack_on_shadows(options)
    return leave_one_out(
        shadow_scores,
        membership,
        lambda target, others, inside: scores(
            name, target, others, inside, variance=options.variance
        ),
    )


def _canaries(
    values: NDArray[np.float64],
    shadow_scores: NDArray[np.float64],
    membership: NDArray[np.bool_],
    is_member: NDArray[np.bool_],
    canary: NDArray[np.bool_],
    options: AuditOptions,
    clusters: NDArray[np.int64] | None,
) -> Canaries:
    """Attack the mislabelled examples alone (Aerni et al., arXiv 2404.17399), and compute the one-run bound.

    `over_shadows` attacks every shadow in turn, which gives S scores per canary: lower rates become measurable than
    with the target's scores alone.
    """
    inside, count = is_member[canary], int(canary.sum())
    people = (
        np.arange(count)
        if clusters is None
        else np.unique(clusters[canary], return_inverse=True)[1]
    )
    several = len(np.unique(people)) < count  # canaries of one person: no coins of their own
    pooled_result = None
    if len(membership) >= FEWEST_TO_LEAVE_ONE_OUT:
        pooled = over_shadows(shadow_scores, membership, options)[:, canary]
        name = attack_on_shadows(options)
        pooled_result = evaluate(
            name,
            ATTACKS[name].title,
            pooled.ravel(),
            membership[:, canary].ravel(),
            options,
            clusters=np.broadcast_to(people, pooled.shape).ravel(),
        )
    bound = None
    if not several and not reads_membership(options.attack):
        bound = one_run(values[canary], inside, GUESSED_CANARIES, options)
    return Canaries(
        count=count,
        members=int(inside.sum()),
        attack=evaluate(
            options.attack,
            ATTACKS[options.attack].title,
            values[canary],
            inside,
            options,
            clusters=people if several else None,
        ),
        one_run=bound,
        over_shadows=pooled_result,
    )
