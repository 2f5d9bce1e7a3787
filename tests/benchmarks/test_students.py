"""The grids of students run through at their small size; their tables compare like with like."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from benchmarks.cells import compared

from benchmarks import batches, refreshed, students

KEYS = ("steps", "guidance")


def runs(accuracies: dict[tuple[int, float], list[float]]) -> list[dict[str, Any]]:
    return [
        {"seed": seed, "steps": steps, "guidance": guidance, "accuracy": value}
        for (steps, guidance), values in accuracies.items()
        for seed, value in enumerate(values)
    ]  # fmt: skip


def test_differences_are_paired_by_seed() -> None:
    base = [80.0, 84.0, 88.0]
    cells = {
        (20, 2.0): base,
        (4, 2.0): [value - 1 + bit for value, bit in zip(base, (0.1, 0, -0.1), strict=True)],
        (6, 1.0): [value + bit for value, bit in zip(base, (0.3, -0.4, 0.2), strict=True)],
    }
    published, worse, equal = (
        next(row for row in compared(runs(cells), KEYS, (20, 2.0)) if (row["steps"], row["guidance"]) == cell)
        for cell in cells
    )  # fmt: skip

    assert published["as_good"]
    assert published["difference"] == 0
    assert worse["as_good"] is False  # a point apart in every seed, though seeds lie four apart
    # mean -1, sd 0.1, t(0.975, 2) = 4.303
    assert worse["difference_low"] == pytest.approx(-1 - 4.3027 * 0.1 / 3**0.5, abs=1e-4)
    assert equal["as_good"] is True


def test_a_seed_that_lacks_a_cell_is_refused() -> None:
    some = runs({(20, 2.0): [80.0, 81.0], (4, 2.0): [79.0]})
    with pytest.raises(ValueError, match="every cell"):
        compared(some, KEYS, (20, 2.0))


def test_a_cell_without_a_student_stands_without_figures() -> None:
    some = runs({(20, 2.0): [80.0, 81.0], (4, 2.0): [79.0, 78.0]})
    some[-1]["accuracy"] = None
    published, diverged = compared(some, KEYS, (20, 2.0))
    assert (diverged["steps"], diverged["accuracy"], diverged["as_good"]) == (4, None, None)
    assert published["accuracy"] == 80.5


@pytest.mark.slow
@pytest.mark.skipif("TCKR_LONG" not in os.environ, reason="takes half a minute: set TCKR_LONG=1")
def test_small_and_merged(tmp_path: Path) -> None:
    files = tmp_path / "0.json", tmp_path / "1.json", tmp_path / "both.json"
    students.main(["--small", "--out", str(files[0])])
    alone = json.loads(files[0].read_text())
    again = [{**run, "seed": 1, "accuracy": run["accuracy"] + 2} for run in alone["runs"]]
    files[1].write_text(json.dumps({**alone, "runs": again}))
    students.main(["--merge", str(files[0]), str(files[1]), "--out", str(files[2])])
    both = json.loads(files[2].read_text())

    cells = [(2, 1), (2, 2), (4, 1), (4, 2)]
    assert [(row["steps"], row["guidance"]) for row in both["cells"]] == cells
    assert alone["members"] == both["members"] == 120
    for run, row, joint in zip(alone["runs"], alone["cells"], both["cells"], strict=True):
        assert run["accuracy"] == row["accuracy"] > 15  # ten classes
        assert run["images_per_s"] == pytest.approx(120 / run["seconds"])
        assert row["as_good"] is (True if (row["steps"], row["guidance"]) == (4, 2) else None)
        assert (joint["seeds"], joint["accuracy"]) == (2, pytest.approx(row["accuracy"] + 1))
        assert joint["difference"] == pytest.approx(row["difference"])
        assert joint["speed_ratio"] == pytest.approx(row["speed_ratio"])


@pytest.mark.slow
@pytest.mark.skipif("TCKR_LONG" not in os.environ, reason="takes a minute: set TCKR_LONG=1")
def test_small_batches(tmp_path: Path) -> None:
    path = tmp_path / "batches.json"
    batches.main(["--small", "--out", str(path)])
    result = json.loads(path.read_text())

    assert [(row["batch"], row["optimiser_steps"]) for row in result["cells"]] == [(4, 30), (40, 3)]
    rates = [run["learning_rate"] for run in result["runs"]]
    assert rates[1] / rates[0] == pytest.approx(10**0.5)
    assert all(
        run["accuracy"] > 15 and run["last_loss"] > 0 for run in result["runs"]
    )  # ten classes


@pytest.mark.slow
@pytest.mark.skipif("TCKR_LONG" not in os.environ, reason="takes a minute: set TCKR_LONG=1")
def test_small_refreshed(tmp_path: Path) -> None:
    path = tmp_path / "refreshed.json"
    refreshed.main(["--small", "--labels", "on_the_fly", "--out", str(path)])
    result = json.loads(path.read_text())

    sets = ["fixed", "fixed, 2 slices", "fresh, 2 slices", "filtered 0"]
    assert [row["set"] for row in result["cells"]] == sets
    images = {run["set"]: run["images"] for run in result["runs"]}
    assert [images[name] for name in sets[:3]] == [120, 240, 240]
    for run in result["runs"]:
        if run["images"]:
            assert run["accuracy"] > 15  # ten classes
        else:  # a teacher of 120 images does not recognise every class
            assert (run["set"], run["accuracy"]) == ("filtered 0", None)
