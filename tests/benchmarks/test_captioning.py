"""The captioning benchmark runs through at its small size."""

import json
from pathlib import Path

import pytest
from benchmarks.captioning import main


@pytest.mark.slow
def test_small(tmp_path: Path) -> None:
    main(["--small", "--images", "16", "--json", str(tmp_path / "result.json")])
    result = json.loads((tmp_path / "result.json").read_text())
    published, half, brain = result["rows"]
    assert published["ratio"] == 1
    assert min(half["images_per_s"], brain["images_per_s"]) > 0
    assert published["same"] == published["compared"] == half["compared"] == 6
    assert published["distinct"] > 1
    assert half["same"] + half["ties"] >= 5
    assert [row["images"] for row in result["memory_against_images"]] == [4, 8, 16]
    assert 0 < result["tflop_per_image"] < 1e-3
