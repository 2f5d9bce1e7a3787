"""Audit everything that is released at once: one attacker who holds student, recycled set, private teacher and adapter."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tckr import metrics
from tckr.attacks.fusion import fuse
from tckr.attacks.registry import scores
from tckr.audit.attack_results import AttackResult, Auc, Ppv, Tpr
from tckr.audit.evaluation import evaluate
from tckr.audit.options import FEWEST_TO_LEAVE_ONE_OUT, AuditOptions
from tckr.audit.things import THINGS, ThreatAudit
from tckr.audit.threats import FEWEST_ASKED, shadow_attack
from tckr.audit.vulnerability import leave_one_out

FUSION, ON_SHADOWS = "fusion", "fusion_on_shadows"
Floats = NDArray[np.float64]


def audit_joint(
    held: Mapping[str, tuple[Floats, Floats]],
    membership: NDArray[np.bool_],
    is_member: NDArray[np.bool_],
    options: AuditOptions,
    clusters: NDArray[np.int64] | None = None,
) -> ThreatAudit | None:
    """Attack several things together; see `tckr.attacks.fusion`.

    Each is attacked as on its own, by `shadow_attack`: in the target with all shadows, in every shadow with the others.

    Args:
        held: scores of the target (N,) or (N, Q), and of the shadows (S, N) or (S, N, Q), by what they are of, in words.
        membership: bool (S, N).
        is_member: bool (N,).
        options: names the attack.
        clusters: int (N,), the person behind each image where some have several; see `evaluate`.

    Returns:
        None of fewer than two things, or with too few shadows to attack each with the others.

    >>> from tckr.audit.membership import membership_matrix
    >>> from tckr.audit.options import ReleaseThreat
    >>> random, inside, is_member = np.random.default_rng(0), membership_matrix(2000, 8, 0.5, 0), np.arange(2000) < 1000
    >>> def leaks(by):
    ...     return random.normal(size=2000) + by * is_member, random.normal(size=(8, 2000)) + by * inside
    >>> options = AuditOptions(release=ReleaseThreat(encoder="not used here"))
    >>> found = audit_joint({"student": leaks(0.5), "adapter": leaks(0.5)}, inside, is_member, options)
    >>> found.primary.label
    'logistic regression of the attacks on student (0.5), adapter (0.5), learnt on the shadows (rmia)'
    """
    if len(held) < 2 or len(membership) < FEWEST_TO_LEAVE_ONE_OUT:
        return None
    name = shadow_attack(options)

    def attack(target: Floats, shadows: Floats, inside: NDArray[np.bool_]) -> Floats:
        return scores(name, target, shadows, inside, variance=options.variance)

    of_target = [attack(target, shadows, membership) for target, shadows in held.values()]
    of_shadows = [leave_one_out(shadows, membership, attack) for _, shadows in held.values()]
    fused = fuse(np.stack(of_target, -1), np.stack(of_shadows, -1), membership)
    weighed = ", ".join(
        f"{what} ({weight:.1f})" for what, weight in zip(held, fused.weights, strict=True)
    )
    label = f"logistic regression of the attacks on {weighed}, learnt on the shadows ({name})"
    few = min(int(is_member.sum()), int((~is_member).sum())) < FEWEST_ASKED
    limits = (
        f"Fewer than {FEWEST_ASKED:,} images of a kind were asked about, too few to see a leak of a few points: measure with"
        " privacy_audit.asked: null."
    )
    return ThreatAudit(
        shows="leaks" if few else "both",
        limits=limits if few else "",
        assumes=THINGS["joint"].attacker,
        primary_attack=FUSION,
        n_members=int(is_member.sum()),
        n_non_members=int((~is_member).sum()),
        n_shadows=len(membership),
        attacks={
            FUSION: evaluate(FUSION, label, fused.scores, is_member, options, clusters=clusters),
            ON_SHADOWS: _on_shadows(fused.on_shadows, membership, options, clusters),
        },
    )


def _on_shadows(
    fused: Floats,
    membership: NDArray[np.bool_],
    options: AuditOptions,
    clusters: NDArray[np.int64] | None,
) -> AttackResult:
    """Return what the joint attack of the recipe finds, run after run: every shadow by a fusion learnt on the others."""
    area = metrics.auc_of_runs(fused, membership, options.confidence, clusters).estimate
    rates = [
        metrics.tpr_of_runs(fused, membership, fpr, options.confidence, clusters)
        for fpr in options.fprs
    ]
    return AttackResult(
        name=ON_SHADOWS,
        label="the same on every shadow in turn, learnt on the others: mean of the runs",
        auc=Auc.of(area),
        covers_half=metrics.covers_half(area),
        tprs=tuple(
            Tpr.of(rate, ppv=[Ppv.of(metrics.ppv(rate, prior)) for prior in options.priors])
            for rate in rates
        ),
        epsilon=None,
    )
