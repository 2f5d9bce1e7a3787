"""Who holds several things finds more than in any of them; who holds one has no row of his own."""

import json

import numpy as np
import pytest
from scipy.stats import norm

from tckr.audit.joint import FUSION, ON_SHADOWS, audit_joint
from tckr.audit.membership import membership_matrix
from tckr.audit.options import AuditOptions, ReleaseThreat
from tckr.audit.results import Audit, Plan
from tckr.audit.things import ThreatAudit
from tckr.audit.threats import shadow_attack
from tckr.reporting.findings import verdict

N, S = 3000, 8
IS_MEMBER = np.arange(N) < N // 2
INSIDE = membership_matrix(N, S, 0.5, 0)


def options(attack: str = "bavaria_t") -> AuditOptions:
    return AuditOptions(attack=attack, release=ReleaseThreat(encoder="none"))


def held(*leaks: float, queries: int = 1) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Things whose members score `leak` higher than other images of the same difficulty, in Q queries alike."""
    random = np.random.default_rng(0)
    found = {}
    for place, leak in enumerate(leaks):
        difficulty = 3 * random.normal(size=N)
        target = difficulty + random.normal(size=N) + leak * IS_MEMBER
        shadows = difficulty + random.normal(size=(S, N)) + leak * INSIDE
        found[f"thing {place}"] = (
            np.stack([target] * queries, -1),
            np.stack([shadows] * queries, -1),
        )
    return found


def joint(attack: str, *leaks: float, **changes) -> ThreatAudit:
    found = audit_joint(held(*leaks, **changes), INSIDE, IS_MEMBER, options(attack))
    assert found is not None
    return found


@pytest.mark.parametrize("attack", ["bavaria_t", "rmia"])
def test_two_weak_leaks_are_a_stronger_one(attack: str) -> None:
    """Either thing alone leaks d'; both together d' times the root of two, less what eight shadows cost."""
    from tckr import metrics
    from tckr.attacks.registry import scores

    found = joint(attack, 0.5, 0.5, queries=2)
    alone = [
        metrics.auc(scores(attack, target, shadows, INSIDE, variance="global"), IS_MEMBER).value
        for target, shadows in held(0.5, 0.5).values()
    ]
    closed = float(norm.cdf(np.hypot(*(np.sqrt(2) * norm.ppf(alone))) / np.sqrt(2)))
    assert found.primary.auc.low < closed < found.primary.auc.high
    assert found.primary.auc.value > max(alone) + 0.02
    assert found.attacks[ON_SHADOWS].auc.low > max(alone)
    assert verdict(found) == ("leaks: the interval lies above no leak", True)


def test_nothing_together_is_nothing() -> None:
    found = joint("rmia", 0.0, 0.0, 0.0)
    assert found.primary.covers_half
    assert found.attacks[ON_SHADOWS].covers_half
    assert verdict(found)[0].startswith("covers no leak")


def test_the_result_is_one_of_an_audit() -> None:
    found = joint("rmia", 0.5, 0.0)
    assert found.primary_attack == FUSION
    whole = Audit(
        plan=Plan(n_shadows=S, requested=S, seconds_per_group=1, minutes=0.2, workers=1),
        things={"joint": found},
    )
    assert Audit.model_validate(json.loads(json.dumps(whole.model_dump(mode="json")))) == whole


def test_few_images_show_a_leak_alone() -> None:
    part = slice(N // 2 - 300, N // 2 + 300)
    few = {name: (one[part], all_[:, part]) for name, (one, all_) in held(0.0, 0.0).items()}
    found = audit_joint(few, INSIDE[:, part], IS_MEMBER[part], options("rmia"))
    assert found is not None
    assert verdict(found)[0].startswith("not measured. Fewer than 1,000 images")


def test_people_with_several_images_have_wider_intervals() -> None:
    people = np.arange(N) // 3
    of_people = np.repeat(membership_matrix(N // 3, S, 0.5, 1), 3, axis=1)
    inside = np.repeat(np.arange(N // 3) < N // 6, 3)
    found = audit_joint(held(0.0, 0.0), of_people, inside, options("rmia"), people)
    assert found is not None
    assert found.primary.auc.n_clusters == N // 3
    assert found.primary.epsilon is None


def test_one_thing_or_too_few_shadows_are_no_joint_attack() -> None:
    assert audit_joint(held(0.5), INSIDE, IS_MEMBER, options()) is None
    few = {name: (one, all_[:4]) for name, (one, all_) in held(0.5, 0.5).items()}
    assert audit_joint(few, membership_matrix(N, 4, 0.5, 0), IS_MEMBER, options()) is None
    assert shadow_attack(options("qmia")) == "rmia"
