"""A leak that an average hides, and one that counting images would invent: each changes the certificate.

That of a label column which memorises is planted in real networks: `tests/audit/test_attacker.py`.
"""

import numpy as np
import pytest

from certified import broken, certified, policy, whole
from tckr.audit.audit import audit
from tckr.audit.membership import membership_matrix
from tckr.audit.options import AuditOptions, ReleaseThreat
from tckr.audit.things import ModelAudit, ThreatAudit
from tckr.audit.threats import audit_generator
from tckr.release.policy import reason_to_withhold
from tckr.reporting.certificate import most_exposed, sentences, write_certificate

SHADOWS = 8
OPTIONS = AuditOptions(n_shadows=SHADOWS, release=ReleaseThreat(encoder="none"))


def adapter(known: int) -> ThreatAudit:
    """The audit of an adapter that knows `known` of 1,000 members by heart, and so does every shadow that saw them."""
    n, random = 2000, np.random.default_rng(0)
    inside = np.arange(n) < n // 2
    by_heart = np.isin(np.arange(n) % (n // 2), np.arange(known))  # of members and holdout alike
    matrix = membership_matrix(n, SHADOWS, 0.5, 0)
    base = random.normal(size=n)
    return audit_generator(
        {"loss": base + 0.1 * random.normal(size=n) + 3 * (inside & by_heart)},
        {"loss": base},
        inside,
        OPTIONS,
        {"loss": base + 0.1 * random.normal(size=(SHADOWS, n)) + 3 * (matrix & by_heart)},
        matrix,
    )


@pytest.mark.parametrize("known", [0, 10])
def test_an_adapter_that_memorises_ten_images_is_withheld(known: int) -> None:
    found = whole({"generator": adapter(known)})
    held_to = policy(things=("adapter",), largest_auc=0.6, largest_group_auc=0.95)
    assert found.things["generator"].primary.auc.high < 0.6  # the average says nothing
    why = reason_to_withhold("adapter", held_to, found)
    certificate = certified(found, held_to, ("adapter",))

    assert ("1 % most exposed" in why) == (known > 0)
    assert broken(certificate) == (["largest_group_auc"] if known else [])
    worst = most_exposed(certificate)
    assert worst is not None
    assert (worst[1].name == "1 % most exposed" and worst[1].auc.low > 0.6) == (known > 0)
    shown = f"{100 * worst[1].auc.value:.1f} of 100"
    assert shown in write_certificate(certificate)


def students_of_people(leak: float, counted: bool) -> ModelAudit:
    """The audit of a student on 40 people of 20 images each, whose images score alike; `leak`: it knows people."""
    random = np.random.default_rng(0)
    people = np.repeat(np.arange(40), 20)
    inside = people < 20
    matrix = membership_matrix(40, SHADOWS, 0.5, 0)[:, people]
    # How easy somebody's images are differs from run to run.
    of_person = random.normal(size=(SHADOWS + 1, 40))[:, people]
    own = 0.1 * random.normal(size=(SHADOWS + 1, len(people)))
    return audit(
        of_person[0] + own[0] + leak * inside,
        of_person[1:] + own[1:] + leak * matrix,
        matrix,
        inside,
        accuracy_percent=80.0,
        options=OPTIONS,
        scope="pipeline",
        clusters=people if counted else None,
    )


def test_people_of_twenty_images_are_the_unit_and_a_leak_of_theirs_is_found() -> None:
    held_to = policy(things=("student",), largest_auc=0.9)
    innocent, guilty = (
        certified(whole({"weights": students_of_people(leak, counted=True)}), held_to, ("student",))
        for leak in (0.0, 3.0)
    )
    for certificate in (innocent, guilty):
        assert certificate.data.unit == "person"
        assert any("of 40 people" in text for text in sentences(certificate))
    assert broken(innocent) == []
    assert broken(guilty) == ["largest_auc"]
    low, high = (
        (auc.low, auc.high)
        for auc in (
            innocent.identifiability.rows["weights"].primary.auc,
            guilty.identifiability.rows["weights"].primary.auc,
        )
    )
    assert low[0] < 0.5 < low[1]
    assert high[0] > 0.8


def test_twenty_images_of_a_person_are_not_twenty_pieces_of_evidence() -> None:
    """Counted one by one, the same images of people who score alike give an interval that is far too narrow."""
    by_person, by_image = (
        students_of_people(0.0, counted).primary.auc for counted in (True, False)
    )
    assert by_person.value == pytest.approx(by_image.value)
    assert by_person.high - by_person.low > 3 * (by_image.high - by_image.low)
