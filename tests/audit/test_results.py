"""Results survive JSON unchanged, and refuse what does not belong in them."""

import json
import math

import numpy as np
import pytest
from pydantic import ValidationError

from tckr.audit.attribution import attribute, every_way, student_name
from tckr.audit.audit import audit
from tckr.audit.extraction import extract
from tckr.audit.membership import membership_matrix
from tckr.audit.options import AuditOptions, ReleaseThreat
from tckr.audit.results import Audit, Plan
from tckr.audit.things import THINGS, ModelAudit
from tckr.audit.threats import audit_release
from tckr.metrics import Estimate

N, S = 400, 8
OPTIONS = AuditOptions(n_shadows=S, release=ReleaseThreat(encoder="none"))
CHANNELS = ("adapter", "captions")
IS_MEMBER = np.arange(N) < N // 2
MEMBERSHIP = membership_matrix(N, S, 0.5, 0)


@pytest.fixture(scope="module")
def found() -> Audit:
    random = np.random.default_rng(0)
    student = audit(
        random.normal(size=N) + IS_MEMBER,
        random.normal(size=(S, N)) + MEMBERSHIP,
        MEMBERSHIP,
        IS_MEMBER,
        accuracy_percent=80.0,
        options=OPTIONS,
        scope="distillation",
        canary=np.arange(N) % 4 == 0,
    )
    scores = {
        student_name(way, CHANNELS): random.normal(size=(S, N)) for way in every_way(CHANNELS)
    }
    return Audit(
        plan=Plan(n_shadows=S, requested=S, seconds_per_group=1.5, minutes=0.2, workers=1),
        things={
            "student": student,
            "images": audit_release(
                "images", {"density_ratio": random.normal(size=N)}, IS_MEMBER, OPTIONS
            ),
        },
        extraction=extract(
            {
                "density_ratio": random.normal(size=N) + 9 * (np.arange(N) < 12),
                "nearest_index": np.arange(N),
            },
            IS_MEMBER,
            OPTIONS,
        ),
        attribution=attribute(scores, MEMBERSHIP, CHANNELS),
    )


def test_json_gives_the_same_audit_back(found: Audit) -> None:
    written = json.dumps(found.model_dump(mode="json"), allow_nan=False)

    assert Audit.model_validate(json.loads(written)) == found
    assert json.loads(written)["version"] == 6


def test_a_file_of_version_3_is_read(found: Audit) -> None:
    old = found.model_dump(mode="json") | {"version": 3}
    del old["guarantee"], old["extraction"]
    for thing in old["things"].values():
        for attack in thing["attacks"].values():
            del attack["separation"]
            attack["no_leak"] = attack.pop("covers_half")
    read = Audit.model_validate(old)

    assert (read.version, read.guarantee, read.proven) == (3, None, None)
    assert read.extraction == ()
    assert read.things["student"].primary.auc == found.things["student"].primary.auc
    with pytest.raises(ValidationError, match="3, 4, 5 or 6"):
        Audit.model_validate(old | {"version": 2})


def test_the_primary_attack_is_one_of_the_attacks(found: Audit) -> None:
    student = found.things["student"]
    assert student.primary is student.attacks["rmia"]
    assert student.primary.tpr is student.primary.tprs[0]
    with pytest.raises(ValidationError, match="not among the attacks"):
        ModelAudit.model_validate(student.model_dump() | {"primary_attack": "guess"})


def test_figures_in_percent_have_their_names(found: Audit) -> None:
    student = found.things["student"]
    percent = student.with_accuracy()

    assert list(percent)[:4] == ["accuracy", "AUC_MIA", "AUC_MIA_low", "AUC_MIA_high"]
    assert percent["AUC_MIA"] == 100 * student.primary.auc.value
    rates = student.primary.in_percent(student.primary.tprs)
    assert rates["TPR_at_0.01pct_FPR"] is None
    assert "accuracy" not in rates
    assert "AOP" not in found.things["images"].in_percent()


def test_what_is_not_finite_is_none() -> None:
    from tckr.audit.attack_results import Interval

    interval = Interval.of(Estimate(1.0, 1.0, math.inf, 0.95, "one-sided"))
    assert interval.high is None
    assert Interval.model_validate(interval.model_dump() | {"low": math.nan}).low is None


def test_unknown_things_and_fields_are_refused(found: Audit) -> None:
    with pytest.raises(ValidationError, match=r"cat: not in tckr\.audit\.things\.THINGS"):
        Audit(plan=found.plan, things={"cat": found.things["images"]})
    with pytest.raises(ValidationError, match="Extra inputs"):
        Audit.model_validate(found.model_dump() | {"colour": "red"})
    with pytest.raises(ValidationError, match="frozen"):
        found.version = 3
    assert set(found.models) | set(found.threats) <= set(THINGS)
