"""A private set whose shadows would lack a class is refused before anything is trained, by the class's name."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tckr.audit.classes import check_classes, classes_lacking, probability_of_lacking
from tckr.audit.membership import membership_matrix
from tckr.audit.options import AuditOptions, ReleaseThreat
from tckr.audit.tables import draw_memberships
from tckr.errors import UserError

RELEASE = ReleaseThreat(encoder="a folder")


def private_set(counts: Sequence[int]) -> pd.DataFrame:
    """So many members, and as many holdout images, of each class."""
    rows = [
        {"image_id": f"{label}-{split}-{i}", "split": split, "label": label}
        for label, count in enumerate(counts)
        for split in ("members", "holdout")
        for i in range(count)
    ]
    table = pd.DataFrame(rows)
    return table.assign(class_name=[f"species {label}" for label in table["label"]])


def test_enough_of_every_class_pass() -> None:
    check_classes(private_set([30, 30, 20]), AuditOptions(n_shadows=8, release=RELEASE), seed=0)


def test_few_of_twenty_classes_are_refused_by_name() -> None:
    images = private_set([3] * 20)
    with pytest.raises(
        UserError, match=r"class 'species \d+' \(6 members and holdout images\)"
    ) as e:
        check_classes(images, AuditOptions(n_shadows=8, release=RELEASE), seed=0)
    assert "ingestion.members" in str(e.value)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("seed", range(6))
def test_what_is_said_is_what_the_audit_will_draw(seed: int) -> None:
    images = private_set([40, 40, 3])
    drawn = draw_memberships(images, 6, seed)
    columns = [name for name in drawn if name.startswith("shadow_")]
    lacks = any(len(images.loc[drawn[name].to_numpy(), "label"].unique()) < 3 for name in columns)
    options = AuditOptions(n_shadows=6, release=RELEASE)
    if lacks:
        with pytest.raises(UserError, match="species 2"):
            check_classes(images, options, seed)
    else:
        check_classes(images, options, seed)


@pytest.mark.parametrize("seed", range(4))
def test_a_class_of_few_people_is_as_rare_as_they_are(seed: int) -> None:
    """Twenty images of the second class, but of two people: some shadow has neither."""
    images = private_set([30, 10])
    many = np.where(
        images["label"] == 0, np.arange(len(images)), 1000 + images["split"].eq("holdout")
    )
    grouped = images.assign(group=many)
    options = AuditOptions(n_shadows=8, release=RELEASE)
    check_classes(images, options, seed)
    with pytest.raises(UserError, match="'species 1'"):
        check_classes(grouped, options, seed)
    budget = AuditOptions(n_shadows=8, time_budget_minutes=5, release=RELEASE)
    check_classes(images, budget, seed)
    with pytest.raises(UserError, match="'species 1'"):
        check_classes(grouped, budget, seed)


def test_with_a_budget_the_probability_decides() -> None:
    options = AuditOptions(n_shadows=8, time_budget_minutes=5, release=RELEASE)
    check_classes(private_set([30, 30]), options, seed=0)
    with pytest.raises(
        UserError, match=r"probability of \d+ %.*'species 1' \(4 members and holdout"
    ):
        check_classes(private_set([30, 2]), options, seed=0)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=2, max_size=5), st.sampled_from([4, 6]))
def test_the_probability_bounds_what_is_drawn(counts: list[int], shadows: int) -> None:
    labels = np.repeat(np.arange(len(counts)), np.multiply(counts, 2))
    drawn = [membership_matrix(len(labels), shadows, 0.5, seed) for seed in range(60)]
    share = np.mean([bool(classes_lacking(labels, matrix)) for matrix in drawn])
    # Shadows draw by blocks, not quite independently; the bound is a rule of thumb with room for that.
    assert share <= 2.5 * probability_of_lacking([2 * count for count in counts], shadows) + 0.15
