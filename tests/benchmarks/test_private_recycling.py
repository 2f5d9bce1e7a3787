"""Private recycling runs through at its small size; processes share what they prepare, and their results are merged."""

import json
import os
from pathlib import Path

import pytest

from benchmarks import private_recycling


def test_the_summary_is_the_mean_and_the_best_of_the_seeds() -> None:
    shared = {
        "epsilon": 1.0,
        "student": "resnet",
        "labels": "hard",
        "views": None,
        "agreement": 90.0,
        "seconds": 1.0,
    }
    rows = [
        {**shared, "seed": seed, "teacher": 80.0 + seed, "accuracy": accuracy}
        for seed, accuracy in enumerate((70.0, 73.0))
    ]
    other = {**rows[0], "labels": "stored", "views": 4}
    first, second = private_recycling.summary([*rows, other])
    assert (first["seeds"], first["teacher"], first["mean"], first["best"]) == (2, 80.5, 71.5, 73.0)
    assert (second["labels"], second["views"], second["mean"]) == ("stored", 4, 70.0)


@pytest.mark.slow
@pytest.mark.skipif("TCKR_LONG" not in os.environ, reason="takes half a minute: set TCKR_LONG=1")
def test_small_with_a_shared_cache(tmp_path: Path) -> None:
    files = [tmp_path / f"{seed}.json" for seed in (0, 1)]
    given = ["--small", "--epsilon", "10", "--labels", "on_the_fly", "stored", "--views", "2", "--shared-cache", str(tmp_path / "cache")]  # fmt: skip
    for seed, file in enumerate(files):
        private_recycling.main([*given, "--seeds", str(seed), "--json", str(file)])
    (prepared,) = (tmp_path / "cache").glob("*.pt")
    assert prepared.stat().st_mtime < files[0].stat().st_mtime  # by the first alone
    both = tmp_path / "both.json"
    private_recycling.main(["--merge", *map(str, files), "--json", str(both)])
    result = json.loads(both.read_text())
    assert [(row["student"], row["labels"], row["seeds"]) for row in result["summary"]] == [
        ("resnet", "on_the_fly", 2), ("resnet", "stored", 2), ("scattering", "on_the_fly", 2), ("scattering", "stored", 2),
    ]  # fmt: skip
    assert {row["seed"] for row in result["rows"]} == {0, 1}
    for row in result["rows"]:
        assert row["spent"] <= 10
        if row["student"] == "scattering":
            # 200 test images, 80 synthetic ones, and noise of the system's own: 8 points apart was seen.
            assert abs(row["accuracy"] - row["teacher"]) < 15
