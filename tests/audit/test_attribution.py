"""A planted leak is found in its channel, and the shares add up."""

import numpy as np
import pandas as pd
import pytest

from tckr.audit.attribution import CHANNELS, EVERY_WAY, Ways, attribute, cells, plans, pool_of
from tckr.audit.membership import membership_matrix
from tckr.audit.results import Attribution

S, N = 12, 400
MEMBERSHIP = membership_matrix(N, S, 0.5, 0)


def scores(leak_of, seed: int = 0) -> dict[str, np.ndarray]:
    """Noise that all students share in part, and members shifted by what each student's channels let in."""
    random = np.random.default_rng(seed)
    common = random.normal(size=(S, N))
    return {
        ways.name: common + 0.5 * random.normal(size=(S, N)) + leak_of(ways) * MEMBERSHIP
        for ways in EVERY_WAY
    }


def tables(found: Attribution) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Students and channels, one row per entry."""
    students, channels = (
        pd.DataFrame([row.model_dump() for row in rows])
        for rows in (found.students, found.channels)
    )
    return students, channels


def test_eight_students_four_pools():
    assert len(EVERY_WAY) == len(plans("on_the_fly")) == 8
    assert len(cells()) == 4
    student = plans("stored")[Ways(True, True, False).name]
    assert (student.pool, student.labels) == ("adapted class_names", "stored")
    assert plans("hard")["nothing"].labels == "hard"
    assert plans("hard")["soft labels"].labels == "on_the_fly"
    assert {pool_of(ways) for ways in EVERY_WAY} == set(cells())


@pytest.mark.parametrize("channel", range(3))
def test_finds_the_channel(channel: int):
    found = attribute(scores(lambda ways: 0.8 * ways[channel]), MEMBERSHIP)
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
    _, channels = tables(attribute(scores(lambda ways: 0.8 * (ways[0] and ways[1])), MEMBERSHIP))
    table = channels.set_index("channel")["share"]
    assert table["soft labels"] == pytest.approx(table["adapter"], abs=0.01)
    assert table["soft labels"] == pytest.approx(table["all"] / 2, abs=0.01)


def test_intervals_cover_nothing_where_nothing_leaks():
    """At 80 %, over many draws: neither blind nor nervous."""
    covered = [
        (channel.low < 0 < channel.high)
        for seed in range(40)
        for channel in attribute(scores(lambda _: 0.0, seed), MEMBERSHIP, 0.8).channels
    ]
    assert 0.65 < np.mean(covered) < 0.93
