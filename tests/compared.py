"""Audits of arms whose leak, accuracy and ledger are chosen, for what compares them."""

import numpy as np

from tckr.audit.audit import audit
from tckr.audit.comparison import ArmResult
from tckr.audit.guarantee import guarantee
from tckr.audit.membership import membership_matrix
from tckr.audit.options import AuditOptions, ReleaseThreat
from tckr.audit.results import Audit, Plan
from tckr.audit.things import ModelAudit, ThingAudit
from tckr.dp import Ledger, Noise

N, SHADOWS = 2000, 8
OPTIONS = AuditOptions(n_shadows=SHADOWS, release=ReleaseThreat(encoder="clip"))


def attacked(accuracy: float, leak: float, shadows: int = SHADOWS) -> ModelAudit:
    """The audit of a model whose scores of members lie `leak` standard deviations higher."""
    random = np.random.default_rng(0)
    inside, matrix = np.arange(N) < N // 2, membership_matrix(N, shadows, 0.5, 0)
    return audit(
        random.normal(size=N) + leak * inside,
        random.normal(size=matrix.shape) + leak * matrix,
        matrix,
        inside,
        accuracy_percent=accuracy,
        options=OPTIONS,
        scope="distillation",
    )


def spent(mu: float, seed: int | None = None) -> Ledger:
    """The ledger of one Gaussian mechanism that was run, of `mu`."""
    ledger = Ledger(100.0, 1e-5, N // 2, "4f2a")
    ledger.add(
        name="teacher", mechanism="gaussian", noise_multiplier=1 / mu, why="clipped", code="doc"
    )
    ledger.spend("teacher", Noise(seed))
    return ledger


def result(
    arm: str,
    accuracy: float = 80.0,
    leak: float = 0.3,
    ledger: Ledger | None = None,
    shadows: int = SHADOWS,
) -> ArmResult:
    """What is known of an arm that took two minutes."""
    plan = Plan(n_shadows=shadows, requested=shadows, seconds_per_group=1, minutes=1, workers=1)
    things: dict[str, ThingAudit] = {
        "teacher": attacked(90.0, 1.0, shadows),
        "student": attacked(accuracy, leak, shadows),
    }
    proven = None if ledger is None else guarantee(ledger, things, OPTIONS.fprs)
    return ArmResult(arm, Audit(plan=plan, things=things, guarantee=proven), 120.0)
