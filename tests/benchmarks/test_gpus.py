"""The benchmarks of several workers run through at their small size."""

import json
import os
from pathlib import Path

import pytest

from benchmarks import gpus, scaling


# The stages are asked the same by tests of `text`, `diffusion` and `audit`.
@pytest.mark.slow
@pytest.mark.skipif("TCKR_LONG" not in os.environ, reason="takes minutes: set TCKR_LONG=1")
def test_two_processes_make_what_one_makes(tmp_path: Path) -> None:
    gpus.main(["--small", "--json", str(tmp_path / "result.json")])
    rows = json.loads((tmp_path / "result.json").read_text())["stages"]
    assert [(row["stage"], row["gpus"]) for row in rows] == [
        (stage, count) for stage in gpus.STAGES for count in (1, 2)
    ]
    assert all(row["same_result"] for row in rows)
    # On a busy machine the first of two workers may have done everything before the second starts.
    assert all(row["workers"] >= 1 for row in rows if row["gpus"] == 2)


def test_scaling_stops_where_shards_start_and_driver_take_over(tmp_path: Path) -> None:
    log = tmp_path / "run.shards.jsonl"
    lines = [{"stage": "drawing", "seconds": 60.0}] * 10 + [{"stage": "other", "seconds": 1e6}]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = tmp_path / "result.json"
    scaling.main(
        [str(log), "--stage", "drawing", "--shards", "640", "--driver", "0", "--json", str(out)]
    )
    hours = {row["workers"]: row["hours"] * 3600 for row in json.loads(out.read_text())["workers"]}
    assert hours[1] == pytest.approx(30 + 640 * 60)
    assert hours[64] == pytest.approx(30 + 10 * 60)
    assert hours[1000] == pytest.approx(30 + 60)  # no more shards than that
    assert scaling.simulate([1.0] * 100, 100, 0.0, 1.0) == pytest.approx(101.0)  # one reader
