"""The benchmarks of SPTI run through at their small sizes, and choose sizes by theory."""

import json
import os
from pathlib import Path

import pytest

from benchmarks import spti, voting
from tckr.dp import Ledger, delta_default, votes_plan


def test_the_summary_compares_first_and_last_distances() -> None:
    shared = {
        "epsilon": 1.0,
        "labels": "hard",
        "candidates": 70,
        "sigma": 3.0,
        "teacher": None,
        "seconds": 2.0,
    }
    rows = [
        {
            **shared,
            "seed": seed,
            "accuracy": 50.0 + seed,
            "true_distance": [1.0, 0.5 + seed],
            "distance": [0.9, 0.4],
        }
        for seed in (0, 1)
    ]
    (found,) = spti.summary(rows)
    assert (found["seeds"], found["first"], found["last"], found["mean"], found["best"]) == (
        2,
        1.0,
        1.0,
        50.5,
        51.0,
    )


@pytest.mark.parametrize("epsilon", [1.0, 10.0])
@pytest.mark.parametrize("labels", ["hard", "soft"])
def test_an_average_candidate_gets_twice_as_many_votes_as_noise(
    epsilon: float, labels: str
) -> None:
    n = 55_000
    arm = spti.arm_of(spti._parse(["--population", "100000"]), epsilon, labels, n, 10)
    ledger = Ledger(epsilon * spti.VOTES[labels] ** 0.5, delta_default(n), n, "test")
    (votes,) = ledger.plan([votes_plan(9, 1)])
    each = n / (10 * arm.evolution.candidates)
    assert 1.8 < each / votes.sigma < 3.2


def test_time_and_memory_of_the_vote_are_told(tmp_path: Path) -> None:
    voting.main(["--small", "--json", str(tmp_path / "voting.json")])
    rows = json.loads((tmp_path / "voting.json").read_text())["rows"]
    assert [(row["images"], row["candidates"]) for row in rows] == [
        (500, 100),
        (1000, 100),
        (1000, 200),
    ]
    assert all(row["seconds"] > 0 for row in rows)


@pytest.mark.slow
@pytest.mark.skipif("TCKR_LONG" not in os.environ, reason="takes minutes: set TCKR_LONG=1")
def test_small(tmp_path: Path) -> None:
    file = tmp_path / "spti.json"
    spti.main(["--small", "--labels", "soft", "--json", str(file)])
    result = json.loads(file.read_text())
    (row,) = result["rows"]
    assert row["spent"] <= 10
    assert len(row["distance"]) == len(row["true_distance"]) == 3
    merged = tmp_path / "merged.json"
    spti.main(["--merge", str(file), str(file), "--json", str(merged)])
    (summary,) = json.loads(merged.read_text())["summary"]
    assert summary["seeds"] == 2
