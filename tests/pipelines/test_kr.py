"""The arm kr as its users meet it: a run, its choice in report, catalog and MLflow, and shadows that repeat it."""

import json
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from click.testing import CliRunner
from kedro.framework.startup import bootstrap_project

from tckr.cli import run


@pytest.fixture(autouse=True)
def inside(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)


def kedro(*arguments: str) -> Any:
    return CliRunner().invoke(run, ["--env=test", *arguments], obj=bootstrap_project(Path.cwd()))


def newest(layer: str, entry: str) -> Path:
    return max(Path("data/test", layer, "kr", entry).iterdir()) / entry


@pytest.mark.slow
def test_a_run_chooses_its_generator_and_says_so() -> None:
    done = kedro("--pipeline=kr")
    assert done.exit_code == 0, done.output
    assert "AUC_MIA" in done.output
    assert "of the generator was sampled, chosen of 3" in done.output

    choice = json.loads(newest("06_models", "choice.json").read_text())
    students = pd.read_csv(newest("08_reporting", "choice_students.csv"))
    rounds = students[students["part"] == "snapshot"]
    assert choice["snapshot"] in rounds["snapshot"].tolist()
    assert rounds["round"].tolist() == [0, 0, 0, 1, 1]
    assert students.loc[students["part"] == "tuning", "trial"].nunique() == 2
    assert sorted(path.name for path in newest("06_models", "snapshots").iterdir()) == [
        *(f"denoiser_{number}.safetensors" for number in range(3)),
        "snapshots.json",
    ]
    page = newest("08_reporting", "report.html").read_text()
    assert "How the generator was chosen" in page
    assert f"Snapshot {choice['snapshot']} of the generator was sampled, chosen of 3" in page
    assert "in neither members nor holdout" in page
    audit = json.loads(newest("08_reporting", "audit.json").read_text())
    assert set(audit["things"]) == {"teacher", "student", "weights", "released", "joint", "images"}
    assert audit["things"]["student"]["scope"] == "pipeline"
    channels = [row["channel"] for row in audit["attribution"]["channels"]]
    assert channels == ["soft labels", "fine-tuning", "all"]

    mlflow.set_tracking_uri(f"sqlite:///{Path.cwd() / 'mlflow.db'}")
    (found,) = mlflow.search_runs(
        experiment_names=["tckr"],
        filter_string="tags.pipeline_names LIKE '%kr%'",
        max_results=1,
        output_format="list",
    )
    assert {"accuracy", "AUC_MIA", "AOP", "choice.minutes"} <= set(found.data.metrics)
    kept = {item.path for item in mlflow.MlflowClient().list_artifacts(found.info.run_id)}
    assert {"choice.json", "choice_curve.png", "choice_students.csv"} <= kept
    left = [path for path in Path("data/test/02_intermediate").rglob("*") if path.is_file()]
    assert not left  # neither snapshots nor a study to go on from


@pytest.mark.slow
def test_without_a_choice_the_stage_says_that_there_was_none() -> None:
    without = "kr.generator_choice.snapshots=last,kr.generator_choice.tuning.trials=0"
    done = kedro("--pipeline=kr", f"--params={without}", "--to-outputs=kr.recycled_set")
    assert done.exit_code == 0, done.output
    assert json.loads(newest("06_models", "choice.json").read_text()) == {
        "snapshot": 2,
        "sampling": {},
        "filter": {},
    }
