"""A planted leak is found in its channel, and the shares add up."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from tckr.audit.attribution import (
    SOFT_LABELS,
    Open,
    attribute,
    every_way,
    set_name,
    sets,
    student_configs,
    student_name,
)
from tckr.audit.membership import membership_matrix
from tckr.audit.results import Attribution

S, N = 12, 400
OF_ARM = ("adapter", "captions")
CHANNELS = (SOFT_LABELS, *OF_ARM)
MEMBERSHIP = membership_matrix(N, S, 0.5, 0)


def scores(leak_of: Callable[[Open], float], seed: int = 0) -> dict[str, np.ndarray]:
    """Noise that all students share in part, and members shifted by what each student's channels let in."""
    random = np.random.default_rng(seed)
    common = random.normal(size=(S, N))
    return {
        student_name(way, OF_ARM): common
        + 0.5 * random.normal(size=(S, N))
        + leak_of(way) * MEMBERSHIP
        for way in every_way(OF_ARM)
    }


def tables(found: Attribution) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Students and channels, one row per entry."""
    students, channels = (
        pd.DataFrame([row.model_dump() for row in rows])
        for rows in (found.students, found.channels)
    )
    return students, channels


def test_eight_students_four_sets():
    assert len(every_way(OF_ARM)) == len(student_configs("on_the_fly", OF_ARM)) == 8
    assert len(sets(OF_ARM)) == 4
    student = student_configs("stored", OF_ARM)["soft labels + adapter"]
    assert (student.pool, student.labels) == ("set of adapter", "stored")
    assert sets(OF_ARM)["set of adapter"] == ("captions",)
    assert student_configs("hard", OF_ARM)["nothing"].labels == "hard"
    assert student_configs("hard", OF_ARM)["soft labels"].labels == "on_the_fly"
    assert {set_name(way, OF_ARM) for way in every_way(OF_ARM)} == set(sets(OF_ARM))


@pytest.mark.parametrize("channels", [(), ("adapter",), ("a", "b", "c")])
def test_an_arm_may_have_any_number_of_channels(channels: tuple[str, ...]):
    ways, students = every_way(channels), student_configs("on_the_fly", channels)
    assert len(ways) == len(students) == 2 ** (1 + len(channels))
    assert list(students) == [student_name(way, channels) for way in ways]
    assert {student.pool for student in students.values()} == set(sets(channels))
    assert sets(channels)["set of nothing"] == channels
    assert () in sets(channels).values()  # the set of everything
    random = np.random.default_rng(0)
    leaks = {name: random.normal(size=(S, N)) for name in students}
    found = attribute(leaks, MEMBERSHIP, channels)
    assert [row.channel for row in found.channels] == [SOFT_LABELS, *channels, "all"]
    *shares, everything = (row.share for row in found.channels)
    assert sum(shares) == pytest.approx(everything)


def test_a_student_says_which_channels_are_open():
    found = attribute(scores(lambda _: 0.0), MEMBERSHIP, OF_ARM)
    opened = {row.student: row.opened for row in found.students}
    assert opened["nothing"] == ()
    assert opened["soft labels + captions"] == ("soft labels", "captions")
    assert opened["soft labels + adapter + captions"] == CHANNELS


@pytest.mark.parametrize("channel", range(3))
def test_finds_the_channel(channel: int):
    found = attribute(scores(lambda way: 0.8 * way[channel]), MEMBERSHIP, OF_ARM)
    students, channels = tables(found)
    assert found.n_shadows == S
    table = channels.set_index("channel")
    guilty = table.loc[CHANNELS[channel]]
    assert guilty["low"] > 0.1
    assert guilty["share"] == pytest.approx(guilty["alone"], abs=0.02)
    for other in set(CHANNELS) - {CHANNELS[channel]}:
        assert table.loc[other, "low"] < 0 < table.loc[other, "high"]
        assert abs(table.loc[other, "share"]) < 0.02
    assert table.loc[list(CHANNELS), "share"].sum() == pytest.approx(table.loc["all", "share"])
    nothing = students.set_index("student").loc["nothing"]
    assert nothing["low"] < 0 < nothing["high"]
    assert students["leak"].equals(students["auc"] - 0.5)


def test_two_channels_that_only_work_together_share_alike():
    _, channels = tables(
        attribute(scores(lambda way: 0.8 * (way[0] and way[1])), MEMBERSHIP, OF_ARM)
    )
    table = channels.set_index("channel")["share"]
    assert table["soft labels"] == pytest.approx(table["adapter"], abs=0.01)
    assert table["soft labels"] == pytest.approx(table["all"] / 2, abs=0.01)


def test_intervals_cover_nothing_where_nothing_leaks():
    """At 80 %, over many draws: neither blind nor nervous."""
    covered = [
        (channel.low < 0 < channel.high)
        for seed in range(20)
        for channel in attribute(scores(lambda _: 0.0, seed), MEMBERSHIP, OF_ARM, 0.8).channels
    ]
    assert 0.65 < np.mean(covered) < 0.93
