import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tckr.errors import UserError
from tckr.images.groups import merged, stratified
from tckr.images.ingest import ingest
from tckr.images.options import IngestionOptions


def people(root, encoded, n=24, images=4, name="{person}/{label}/{number}.png"):
    """A folder of people with several images of both labels each."""
    for person in range(n):
        for number in range(images):
            label = ("well", "ill")[(person + number) % 2]
            path = root / name.format(person=f"patient {person:03}", label=label, number=number)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(1000 * person + number))
    return root


def person_of(table, report):
    return table.groupby("group")["split"].nunique()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("{person}/{label}/{number}.png", {"folders": "group/class"}),
        ("{label}/{person}/{number}.png", {"folders": "class/group"}),
        ("{label}/{person}_{number}.png", {"group_pattern": r"(patient \d+)"}),
    ],
)
def test_one_person_is_in_one_split(tmp_path, encoded, name, options):
    people(tmp_path, encoded, name=name)
    table, report = ingest(tmp_path, IngestionOptions(size=16, **options), 0)
    assert table.groupby("group")["split"].nunique().max() == 1
    assert table["group"].nunique() == 24
    assert report["groups"]["total"] == sum(report["groups"]["splits"].values()) == 24
    assert report["classes"] == ["ill", "well"]
    counts = pd.crosstab(table["split"], table["class_name"])
    assert (counts > 0).all(axis=None)
    members, holdout = report["splits"]["members"], report["splits"]["holdout"]
    assert abs(members - holdout) <= 4
    assert not any("patient" in str(value) for value in table["group"])


def test_groups_of_a_column_and_of_nobody(tmp_path, encoded):
    rows = ["path,label,patient"]
    for number in range(60):
        (tmp_path / f"{number}.png").write_bytes(encoded(number))
        rows.append(f"{number}.png,{'ab'[number % 2]},{f'p{number // 6}' if number < 48 else ''}")
    (tmp_path / "set.csv").write_text("\n".join(rows))
    table, report = ingest(tmp_path, IngestionOptions(size=16, group_column="patient"), 0)
    assert table.groupby("group")["split"].nunique().max() == 1
    assert report["groups"]["total"] == 8 + 12
    plain = ingest(tmp_path, IngestionOptions(size=16), 0)
    assert "group" not in plain[0]
    assert plain[1]["groups"] is None


def test_people_of_the_test_split_leave_the_pool(tmp_path, encoded):
    rows = ["path,label,split,patient"]
    for number in range(80):
        (tmp_path / f"{number}.png").write_bytes(encoded(number))
        split = "test" if number < 20 else "train"
        rows.append(f"{number}.png,{'ab'[number % 2]},{split},p{number % 70 // 2}")
    (tmp_path / "set.csv").write_text("\n".join(rows))
    table, report = ingest(tmp_path, IngestionOptions(size=16, group_column="patient"), 0)
    tested = set(table.loc[table["split"] == "test", "group"])
    assert tested.isdisjoint(table.loc[table["split"] != "test", "group"])
    assert report["images"] == 70  # images 70 to 79 are of people 0 to 4, who are in the test split


def test_names_and_order_of_people_do_not_move_the_splits(tmp_path, encoded):
    one = people(tmp_path / "one", encoded)
    other = people(tmp_path / "other", encoded)
    for folder in sorted(other.iterdir()):
        folder.rename(other / f"x{99 - int(folder.name[-3:])}")
    options = IngestionOptions(size=16, folders="group/class")
    pd.testing.assert_frame_equal(ingest(one, options, 0)[0], ingest(other, options, 0)[0])


def test_a_pattern_that_does_not_fit(tmp_path, encoded):
    people(tmp_path, encoded, 2, name="{label}/{person}_{number}.png")
    with pytest.raises(UserError, match="group_pattern finds no group in the name 'ill/"):
        ingest(tmp_path, IngestionOptions(group_pattern=r"(person \d+)"), 0)
    for wrong in ("(", "no brackets"):
        with pytest.raises(ValueError, match="group_pattern"):
            IngestionOptions(group_pattern=wrong)
    for wrong in ("group", "class/class", "person/class", "split/split/class"):
        with pytest.raises(ValueError, match="folders"):
            IngestionOptions(folders=wrong)
    with pytest.raises(UserError, match="another way"):
        ingest(tmp_path, IngestionOptions(group_pattern="(x)", folders="class/group"), 0)


def test_groups_that_share_an_image_are_one():
    numbers = merged(["ann", "bob", "bob", "cas", None, None], ["1", "1", "2", "3", "4", "5"])
    assert numbers["1"] == numbers["2"]
    assert len(set(numbers.values())) == 4


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(2, 4))
def test_splits_by_group_are_whole_near_their_size_and_repeatable(seed, largest, n_classes):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(120), rng.integers(1, largest + 1, 120))
    labels = rng.integers(0, n_classes, len(groups))
    totals = {
        "validation": len(groups) // 10,
        "members": len(groups) // 3,
        "holdout": len(groups) // 3,
    }
    splits = stratified(labels, groups, totals, seed)
    for group in range(120):
        assert len(set(splits[groups == group])) == 1
    for split, total in totals.items():
        chosen = labels[splits == split]
        assert abs(len(chosen) - total) <= largest + n_classes
        assert set(chosen) == set(labels)
    assert (stratified(labels, groups, totals, seed) == splits).all()
