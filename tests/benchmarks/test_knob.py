"""The benchmark of the labels runs through at its small size; its table holds what was measured and says what was not."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from benchmarks import knob


def row(name: str, seed: int, accuracy: float, student: float | None) -> dict[str, Any]:  # fmt: skip
    figures = dict.fromkeys(knob.FIGURES, student)
    given = {"accuracy": accuracy, "validation": accuracy, "AUC_student": student}
    return {"row": name, "seed": seed, **figures, **given}


def test_the_summary_has_mean_and_range_and_says_what_was_not_measured() -> None:
    rows = [row("on the fly", seed, 84.0 + seed, 60.0 + seed) for seed in range(3)]
    rows += [row("hard, the prompts'", seed, 80.0, None) for seed in range(3)]
    soft, hard = knob.summary(rows)
    assert (soft["seeds"], soft["accuracy"], soft["accuracy_low"], soft["accuracy_high"]) == (3, 85, 84, 86)  # fmt: skip
    assert soft["AUC_student_text"] == "61.0 (60.0-62.0)"
    assert (hard["accuracy"], hard["AUC_student"]) == (80, None)
    assert hard["AUC_student_text"] == "not measured"


def test_the_best_row_costs_at_most_a_point_of_validation_accuracy() -> None:
    lines = [
        row("teacher", 0, 90.0, 50.0),  # is no row
        row("on the fly", 0, 85.0, 60.0),
        row("T = 2", 0, 84.1, 56.0),
        row("T = 4", 0, 83.9, 51.0),  # costs too much
        {**row("top 3", 0, 83.0, 50.0), "accuracy": 99.0},  # better by test images alone
        row("hard, the prompts'", 0, 85.0, None),  # nobody knows
    ]
    assert knob.best_row(lines) == "T = 2"
    assert knob.best_row(lines[:2]) == "on the fly"
    assert knob.best_row(lines[:1]) is None


def test_every_setting_of_the_issue_is_a_row() -> None:
    assert {each.labels for each in knob.ROWS.values()} == {"on_the_fly", "stored", "hard"}
    assert {each.told.temperature for each in knob.ROWS.values()} == {0.5, 1, 2, 4}
    assert {each.told.top_k for each in knob.ROWS.values()} == {None, 1, 3}
    assert {each.told.confidence for each in knob.ROWS.values()} == {1, 0.9, 0.7}
    assert sum(each.private for each in knob.ROWS.values()) == 1


@pytest.mark.slow
@pytest.mark.skipif("TCKR_LONG" not in os.environ, reason="takes ten seconds: set TCKR_LONG=1")
def test_small_and_merged(tmp_path: Path) -> None:
    first, both = tmp_path / "0.json", tmp_path / "both.json"
    names = ["on the fly", "stored, 1 view", "stored, 8 views", "top 3", "hard, the prompts'"]
    knob.main(["--small", "--rows", *names, "--json", str(first)])
    result = json.loads(first.read_text())
    rows = {each["row"]: each for each in result["rows"]}
    assert list(rows) == ["teacher", *names]
    assert (result["members"], result["shadows"]) == (120, 4)
    # What is handed out is the same, whether the owner's student learns on the fly or from it.
    assert rows[names[0]]["AUC_released"] == rows[names[1]]["AUC_released"]
    assert rows[names[0]]["AUC_released"] != rows[names[2]]["AUC_released"]
    assert rows[names[0]]["AUC_student"] != rows[names[3]]["AUC_student"]
    for name in names[:4]:
        assert rows[name]["AUC_student_low"] < rows[name]["AUC_student"] < rows[name]["AUC_student_high"]  # fmt: skip
    assert rows[names[4]]["AUC_student"] is None
    assert "AUC_released" not in rows[names[4]]
    assert result["best"] in names[:4]
    knob.main(["--merge", str(first), str(first), "--json", str(both)])
    merged = json.loads(both.read_text())
    assert [each["seeds"] for each in merged["summary"]] == [2] * 6
    assert merged["summary"][1]["accuracy"] == rows[names[0]]["accuracy"]
