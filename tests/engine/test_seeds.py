"""Seeds are stable, apart, and in the range that every library takes."""

from hypothesis import given
from hypothesis import strategies as st

from tckr.engine.seeds import derive


def test_known_values_never_change() -> None:
    assert [derive(0, "teacher"), derive(0, "student"), derive(1, "teacher")] == [
        1060373291,
        95282828,
        1179281428,
    ]


@given(st.integers(0, 2**63), st.text(max_size=30))
def test_range(seed: int, name: str) -> None:
    assert 0 <= derive(seed, name) < 2**31


def test_names_and_numbers_tell_parts_apart() -> None:
    seeds = {
        derive(seed, name, part)
        for seed in range(20)
        for name in ("shadow", "teacher")
        for part in range(20)
    }
    assert len(seeds) == 800
