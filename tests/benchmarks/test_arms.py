"""An arm under differential privacy runs on a whole set with the options of the configuration."""

from pathlib import Path

import pytest

from benchmarks import arms
from tiny import make_models


def test_options_are_those_of_the_configuration_and_what_is_set() -> None:
    arm = arms.configured("privimage", 1.0, small=False, changes=["privacy.teacher=0"])
    assert (arm.privacy.epsilon, arm.privacy.teacher) == (1.0, 0)
    assert arm.generator_adaptation.schedule.micro_batch == 512  # of conf/gpu
    assert Path(arm.semantic_query.pool).name == "pool.parquet"  # of conf/base


@pytest.mark.slow
def test_an_arm_is_fitted_drawn_from_and_taught(tmp_path: Path) -> None:
    generator = make_models(tmp_path) / "generator"
    sheet, saved = tmp_path / "sheet.png", tmp_path / "result.json"
    arms.main(
        [
            "privimage",
            "--small",
            "--generator",
            str(generator),
            "--student",
            "resnet",
            "--labels",
            "hard",
            "--synthetic",
            "20",
            "--sheet",
            str(sheet),
            "--json",
            str(saved),
        ]
    )
    assert sheet.is_file()
    assert '"labels": "hard"' in saved.read_text()
