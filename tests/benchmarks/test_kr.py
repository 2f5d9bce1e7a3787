"""The benchmark of kr runs through at its small size, every option in turn, and attacks what it left in the cache."""

import argparse
import json
import os
from pathlib import Path

import pytest

from benchmarks import kr, kr_leak


def test_the_summary_has_the_mean_gap_of_each_option_with_its_interval() -> None:
    row = {"arm": "kr", "option": "none", "teacher": 94.0, "minutes": 1.0}
    rows = [{**row, "accuracy": accuracy} for accuracy in (92.0, 93.0, 92.5)]
    (found,) = kr.summary(rows)
    assert (found["seeds"], found["gap"], found["accuracy"]) == (3, 1.5, 92.5)
    assert found["gap_low"] < 1.5 < found["gap_high"]
    assert kr.summary([{**rows[0]}])[0]["gap_low"] is None


def test_what_is_to_be_attacked_and_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "set-kr-0-none.pt").touch()
    given = argparse.Namespace(cache=tmp_path, options=["none", "mixture"])
    with pytest.raises(SystemExit, match="no set of kr, seed 0, option mixture"):
        kr_leak.asked(given, "kr", 0)
    given.options = None
    assert kr_leak.asked(given, "kr", 0) == ["none"]
    with pytest.raises(SystemExit, match="no set of tckr, seed 0, option none"):
        kr_leak.asked(given, "tckr", 0)


@pytest.mark.slow
@pytest.mark.skipif("TCKR_LONG" not in os.environ, reason="takes minutes: set TCKR_LONG=1")
def test_small_and_its_leak(tmp_path: Path) -> None:
    cache, rows, leak = tmp_path / "cache", tmp_path / "rows.json", tmp_path / "leak.json"
    given = ["--small", "--cache", str(cache)]
    kr.main([*given, "--json", str(rows)])
    result = json.loads(rows.read_text())
    options = ["none", "checkpoint", "tuning", "filter", "regeneration"]
    for arm in kr.ARMS:
        own = [row for row in result["rows"] if row["arm"] == arm]
        assert [row["option"] for row in own] == options
        assert own[-1]["images"] == 2 * own[0]["images"]
        assert own[1]["choice"]["snapshot"] in (0, 1)
        assert len({row["teacher"] for row in result["rows"]}) == 1
    kr.main([*given, "--arms", "kr", "--audit", "0", "--shadows", "4", "--json", str(leak)])
    attacked = json.loads(leak.read_text())["leak"]
    assert [(row["arm"], row["option"]) for row in attacked] == [
        ("teacher", ""), ("kr", "none"), ("kr", "regeneration"),
    ]  # fmt: skip
    assert all(row["AUC_MIA_low"] <= row["AUC_MIA"] <= row["AUC_MIA_high"] for row in attacked)
