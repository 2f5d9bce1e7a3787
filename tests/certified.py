"""What a certificate says of audited things, without a run."""

from collections.abc import Mapping
from typing import Any

from tckr.audit.guarantee import guarantee
from tckr.audit.results import Audit, Plan
from tckr.audit.things import ThingAudit
from tckr.dp import Ledger
from tckr.release.certificate import Certificate, Made, certify
from tckr.release.policy import Kind, Policy

NO_LIMIT = {
    "largest_epsilon": None,
    "largest_auc": None,
    "largest_group_auc": None,
    "least_accuracy": None,
    "unmeasured": False,
}
MADE = Made(
    release="2026-01-02T00.00.00.000Z",
    run="2026-01-01T00.00.00.000Z",
    made="2026-01-02T00:00:00+00:00",
    commit="abc",
    versions={"tckr": "0"},
)


def policy(**limits: Any) -> Policy:
    return Policy(**{"things": ("recycled_set", "student"), **NO_LIMIT, **limits})


def whole(things: Mapping[str, ThingAudit], ledger: Ledger | None = None) -> Audit:
    """The audit of a run that has these things."""
    shadows = max(found.n_shadows for found in things.values())
    return Audit(
        plan=Plan(n_shadows=shadows, requested=shadows, seconds_per_group=1, minutes=1, workers=1),
        things=dict(things),
        guarantee=None if ledger is None else guarantee(ledger, things, (0.01, 0.001)),
    )


def certified(
    audit: Audit,
    held_to: Policy | None = None,
    things: tuple[Kind, ...] = ("recycled_set", "student"),
) -> Certificate:
    """The certificate of a release of some things of an audit."""
    return certify(
        audit,
        policy_name="ours",
        policy=held_to or policy(),
        things=things,
        withheld=(),
        arm="tckr",
        accuracy={
            "n_test": 50,
            "classes": ["bag", "boot"],
            "student": {"accuracy": 80.0, "per_class": [90.0, None]},
        },
        ingestion_report={"splits": {"members": 100}, "classes": ["bag", "boot"]},
        per_class={"bag": 2, "boot": 1},
        soft_labels=True,
        made=MADE,
    )


def broken(certificate: Certificate) -> list[str]:
    """The clauses of the policy that do not hold."""
    return [clause.name for clause in certificate.context.clauses if not clause.holds]
