import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tckr.errors import UserError
from tckr.images.canaries import duplicate, is_duplicated, is_first, plant, summary
from tckr.images.options import CanaryOptions

NAMES = ["ant", "bee", "cow", "dog"]


def table(members: int, holdout: int, validation: int = 20, test: int = 20) -> pd.DataFrame:
    counts = {"members": members, "holdout": holdout, "validation": validation, "test": test}
    splits = np.repeat(list(counts), list(counts.values()))
    labels = np.arange(len(splits)) % len(NAMES)
    return pd.DataFrame(
        {"split": splits, "label": labels, "class_name": [NAMES[label] for label in labels]}
    )


@given(st.integers(40, 80), st.integers(40, 80), st.integers(0, 20), st.integers(0, 2**31))
@settings(deadline=None, max_examples=50)
def test_canaries_alone_are_wrong_and_in_proportion(members, holdout, count, seed):
    before = table(members, holdout)
    after = plant(before, NAMES, count, seed)
    canary = after["canary"]
    assert canary.sum() == count
    assert canary.dtype == bool
    assert ((after["label"] != before["label"]) == canary).all()
    assert (after["class_name"] == [NAMES[label] for label in after["label"]]).all()
    assert not canary[~after["split"].isin(["members", "holdout"])].any()
    quota = count * members / (members + holdout)
    assert abs(canary[after["split"] == "members"].sum() - quota) < 1
    pd.testing.assert_frame_equal(after, plant(before, NAMES, count, seed))


def test_equal_splits_get_equally_many_and_the_report_says_so():
    after = plant(table(100, 100), NAMES, 30, seed=0)
    found = summary(after)
    assert (found["total"], found["members"], found["holdout"]) == (30, 15, 15)
    assert "wrong on purpose" in found["note"]
    assert summary(plant(after.drop(columns="canary"), NAMES, 0, seed=0))["total"] == 0


def test_wrong_labels_are_uniform_among_the_other_classes():
    before = table(20_000, 20_000)
    after = plant(before, NAMES, 20_000, seed=1)
    canary = after["canary"]
    moved = pd.crosstab(before["label"][canary], after["label"][canary], normalize="index")
    expected = (1 - np.eye(4)) / 3
    np.testing.assert_allclose(moved.to_numpy(), expected, atol=0.03)


def test_another_seed_draws_others():
    before = table(100, 100)
    one, other = (plant(before, NAMES, 30, seed) for seed in (0, 1))
    assert (one["canary"] != other["canary"]).any()


def test_at_least_half_stay_true():
    before = table(40, 60)
    assert plant(before, NAMES, 50, seed=0)["canary"].sum() == 50
    with pytest.raises(UserError, match="fewer than half"):
        plant(before, NAMES, 51, seed=0)


def test_a_class_that_would_vanish_is_named():
    """One image a class: whether another takes a lost one's label is up to the seed."""
    before = table(4, 4)
    outcomes = []
    for seed in range(20):
        try:
            after = plant(before, NAMES, 4, seed)
        except UserError as error:
            outcomes.append(str(error))
        else:
            counts = pd.crosstab(after["class_name"], after["split"])
            assert (counts[["members", "holdout"]] > 0).all(axis=None)
    assert outcomes
    assert all("is labelled '" in message for message in outcomes)


def with_ids(*sizes: int, mislabelled: int = 0) -> pd.DataFrame:
    planted = plant(table(*sizes), NAMES, mislabelled, seed=0)
    return planted.assign(image_id=[f"{number:04}" for number in range(len(planted))])


@given(st.integers(1, 12), st.integers(2, 5), st.integers(0, 12), st.booleans(), st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_copies_of_a_canary_never_straddle_members_and_holdout(
    count, copies, mislabelled, grouped, seed
):
    # 25 people behind 50 members do not suffice for more.
    assume(not grouped or count + mislabelled <= 12)
    before = with_ids(50, 60, mislabelled=mislabelled)
    if grouped:
        before["group"] = np.arange(len(before)) // 2  # two images of each person
    options = CanaryOptions(mislabelled=mislabelled, duplicated=count, copies=copies)
    after = duplicate(before, options, seed)
    pd.testing.assert_frame_equal(after, duplicate(before, options, seed))
    assert after["image_id"].is_unique
    assert len(after) == len(before) + 2 * count * (copies - 1)
    pd.testing.assert_frame_equal(
        after[is_first(after)][before.columns].reset_index(drop=True), before
    )
    planted = after[is_duplicated(after)]
    of_one = planted.groupby("group")
    assert (of_one[["split", "label"]].nunique() == 1).all(axis=None)
    assert of_one["copy"].apply(list).tolist() == [list(range(1, copies + 1))] * 2 * count
    assert not planted["canary"].any()
    assert planted.loc[is_first(planted), "split"].value_counts().to_dict() == {
        "members": count,
        "holdout": count,
    }
    found = summary(after)["duplicated"]
    assert (found["members"], found["holdout"]) == (count, count)
    assert (found["copies"], found["added"]) == (copies, 2 * count * (copies - 1))


def test_too_many_duplicated_canaries_are_refused_in_one_line():
    before = with_ids(40, 60, mislabelled=20)
    most = 20 - int(before.loc[before["split"] == "members", "canary"].sum())
    assert is_duplicated(duplicate(before, CanaryOptions(duplicated=most), 0)).sum() == 20 * most
    with pytest.raises(
        UserError, match=f"{most + 1} duplicated canaries of the members"
    ) as refused:
        duplicate(before, CanaryOptions(duplicated=most + 1), 0)
    assert "\n" not in str(refused.value)
    families = before.assign(group=np.arange(len(before)) // 20)
    with pytest.raises(UserError, match="one of each person"):
        duplicate(families, CanaryOptions(duplicated=2), 0)


def test_without_duplicated_canaries_nothing_changes():
    before = with_ids(10, 10)
    assert duplicate(before, CanaryOptions(), 0) is before
    assert "duplicated" not in summary(before)
