"""The generation benchmark runs through at its small size."""

import json
import os
from pathlib import Path

import pytest
from benchmarks.generation import main


@pytest.mark.slow
@pytest.mark.skipif("TCKR_LONG" not in os.environ, reason="takes half a minute: set TCKR_LONG=1")
def test_small(tmp_path: Path) -> None:
    main(["--small", "--json", str(tmp_path / "result.json")])
    result = json.loads((tmp_path / "result.json").read_text())
    published, four, auto, few, half_guided = result["rows"]
    assert published["ratio"] == 1
    assert (four["batch"], auto["batch"]) == (4, 8)
    assert min(row["images_per_s"] for row in result["rows"]) > 0
    # 4 of 20 steps, of which PNDM makes 21; the images are decoded all the same
    assert 4 / 21 < few["tflop_per_image"] / four["tflop_per_image"] < 0.25
    assert half_guided["tflop_per_image"] < few["tflop_per_image"]
    assert result["same_image_in_other_batches"]["largest"] <= 1
    assert result["same_image_in_other_batches"]["mean_between_images"] > 10
    assert [row["images"] for row in result["memory_against_images"]] == [8, 16]
