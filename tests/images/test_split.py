import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tckr.errors import UserError
from tckr.images.split import apportion, resolve_pool, resolve_test, stratified

available = st.lists(st.integers(0, 1000), min_size=1, max_size=12).filter(lambda a: sum(a) > 0)


@given(available, st.floats(0, 1))
@settings(deadline=None)
def test_apportion_is_exact_and_within_one_seat_of_the_quota(counts, fraction):
    total = round(fraction * sum(counts))
    seats = apportion(total, np.array(counts))
    quota = total * np.array(counts) / sum(counts)
    assert seats.sum() == total
    assert (seats <= counts).all()
    assert (np.abs(seats - quota) < 1).all()


def test_apportion_gives_ties_to_the_earlier_class_and_knows_its_limits():
    assert apportion(2, np.array([1, 1, 1])).tolist() == [1, 1, 0]
    assert apportion(0, np.array([0, 0])).tolist() == [0, 0]
    with pytest.raises(ValueError, match="share"):
        apportion(4, np.array([1, 2]))


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=200),
    shares=st.tuples(st.floats(0, 0.4), st.floats(0, 0.3), st.floats(0, 0.3)),
    seed=st.integers(0, 2**31),
)
@settings(deadline=None)
def test_splits_have_exact_totals_and_the_class_mix_of_the_whole(labels, shares, seed):
    labels = np.array(labels)
    totals = {str(index): int(share * len(labels)) for index, share in enumerate(shares)}
    drawn = stratified(labels, totals, seed)
    left = len(labels) - sum(totals.values())
    assert {split: (drawn == split).sum() for split in totals} == totals
    assert (drawn == "").sum() == left
    for split, total in totals.items():
        for label in np.unique(labels):
            quota = total * (labels == label).mean()
            # Each split is drawn from what the earlier ones leave: their roundings may add up.
            assert abs(((drawn == split) & (labels == label)).sum() - quota) < len(totals) + 1
    assert (drawn == stratified(labels, totals, seed)).all()


def test_another_seed_draws_others():
    labels = np.zeros(100, dtype=int)
    assert (stratified(labels, {"a": 50}, 0) != stratified(labels, {"a": 50}, 1)).any()


def test_default_shares_of_the_default_set():
    assert resolve_test(None, 2000, 6500) == 2000
    expected = {"validation": 500, "members": 3000, "holdout": 3000}
    assert resolve_pool(None, None, 0.0769, 6500) == expected


def test_test_images_come_from_the_sources_own_test_split_if_it_has_one():
    assert resolve_test(None, 0, 100) == 20
    assert resolve_test(0.5, 40, 100) == 20
    assert resolve_test(30, 40, 100) == 30
    with pytest.raises(UserError, match=r"asks for 50 .* only 40"):
        resolve_test(50, 40, 100)


def test_counts_fractions_and_what_is_left_open():
    assert resolve_pool(10, 20, 5, 100) == {"validation": 5, "members": 10, "holdout": 20}
    assert resolve_pool(30, None, 5, 100) == {"validation": 5, "members": 30, "holdout": 30}
    assert resolve_pool(80, None, 5, 100) == {"validation": 5, "members": 80, "holdout": 15}
    assert resolve_pool(None, 0.25, 10, 100) == {"validation": 10, "members": 25, "holdout": 25}


@given(st.integers(10, 5000))
def test_fractions_that_fill_the_pool_fill_it_exactly(n_pool):
    assert sum(resolve_pool(0.45, 0.45, 0.1, n_pool).values()) == n_pool


@pytest.mark.parametrize(
    "shares", [(60, 60, 5), (0.6, 0.6, 0.1), (100, None, 5), (None, None, 100)]
)
def test_shares_that_do_not_fit_are_refused(shares):
    with pytest.raises(UserError, match="only 100 are there"):
        resolve_pool(*shares, 100)


def test_a_source_that_is_all_test_split_is_called_so():
    """A Parquet file called photos_test.parquet, say."""
    said = "only 0 are there beside the 6000 of the source's own test split.*rename the file"
    with pytest.raises(UserError, match=said):
        resolve_pool(60, 60, 5, 0, 6000)
