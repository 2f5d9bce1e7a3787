"""The adaptation benchmark runs through at its small size."""

import json
import os
from pathlib import Path

import pytest
from benchmarks.adaptation import main


@pytest.mark.slow
@pytest.mark.skipif("TCKR_LONG" not in os.environ, reason="takes ten seconds: set TCKR_LONG=1")
def test_small(tmp_path: Path) -> None:
    main(["--small", "--json", str(tmp_path / "result.json")])
    result = json.loads((tmp_path / "result.json").read_text())
    published, same_batch, larger = result["rows"]
    assert published["ratio"] == 1
    assert "batches of 4" in same_batch["version"]
    assert "batches of 8" in larger["version"]
    assert min(row["images_per_s"] for row in result["rows"]) > 0
    assert 0 < result["tflop_per_image"]["encoding"] < result["tflop_per_image"]["step"] < 1e-3
    # the same work: neither the loss nor the way that the adapter went differs by more than the noise can explain
    means = {name: values["mean"] for name, values in result["loss_over_seeds"].items()}
    assert means["ours"] == pytest.approx(means["published"], rel=0.05)
    moved = {row["version"]: row["moved"] for row in result["losses"]}
    assert moved["ours"] == pytest.approx(moved["published"], rel=0.25)
    assert len({row["mean_loss"] for row in result["losses"]}) == 4
    assert [row["images"] for row in result["memory_against_images"]] == [16, 64]
