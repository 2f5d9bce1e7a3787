"""What the hooks say about a run, without running one."""

import subprocess
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from kedro.io.core import Version
from kedro.pipeline import Node, Pipeline
from kedro_datasets.json import JSONDataset

from tckr.classifiers.options import ClassifierOptions
from tckr.hooks import clock
from tckr.hooks.clock import Clock
from tckr.hooks.project import git_state, saved_path
from tckr.hooks.tracking import log_children
from tckr.options import leaves


def test_typed_options_become_flat_parameters() -> None:
    flat = dict(
        leaves({"classifier": ClassifierOptions(epochs=3), "seed": 1, "plain": {"a": {"b": 2}}})
    )

    assert flat["classifier.epochs"] == 3
    assert flat["classifier.augmentation.shift"] == ClassifierOptions().augmentation.shift
    assert flat["seed"] == 1
    assert flat["plain.a.b"] == 2


def test_students_become_nested_runs_of_the_teacher(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "model": ["teacher", "student", "student"],
            "cardinality": [None, 0.1, 20.0],
            "images": [60, 6, 1200],
            "accuracy": [90.0, 70.0, 80.0],
            "AUC_MIA": [60.0, 51.0, 55.0],
            "TPR_at_1pct_FPR": [2.0, None, 1.5],
        }
    )
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    try:
        experiment = mlflow.create_experiment("sweep", artifact_location=str(tmp_path / "files"))
        with mlflow.start_run(experiment_id=experiment) as parent:
            log_children(table)
        client = mlflow.MlflowClient()
        runs = client.search_runs([experiment], order_by=["metrics.accuracy"])
        children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
        own = client.get_run(parent.info.run_id).data
    finally:
        mlflow.set_tracking_uri(before)

    assert own.metrics == {
        "teacher.accuracy": 90.0,
        "teacher.AUC_MIA": 60.0,
        "teacher.TPR_at_1pct_FPR": 2.0,
    }
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert [run.info.run_name for run in children] == ["cardinality 0.1", "cardinality 20"]
    assert [run.info.status for run in children] == ["FINISHED"] * 2
    assert children[0].data.params == {"cardinality": "0.1", "images": "6"}
    assert children[0].data.metrics == {"accuracy": 70.0, "AUC_MIA": 51.0}
    assert children[1].data.metrics["student.TPR_at_1pct_FPR"] == 1.5


def test_commit_and_changes(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    assert git_state(tmp_path) == {}
    git("init")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-m", "one")
    assert git_state(tmp_path)["git_changed"] == "false"
    assert len(git_state(tmp_path)["git_commit"]) == 40
    (tmp_path / "file").write_text("two")
    assert git_state(tmp_path)["git_changed"] == "true"


def test_path_of_this_run_even_if_an_older_one_is_loaded(tmp_path: Path) -> None:
    file = str(tmp_path / "a.json")
    for day in ("2026-01-01", "2026-01-02"):
        JSONDataset(filepath=file, version=Version(None, f"{day}T00.00.00.000Z")).save({})
    pinned = JSONDataset(
        filepath=file, version=Version("2026-01-01T00.00.00.000Z", "2026-01-02T00.00.00.000Z")
    )

    assert saved_path(pinned) == Path(file) / "2026-01-02T00.00.00.000Z" / "a.json"


def test_time_is_kept_by_node_and_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (
        Node(len, name, f"{name}_out", name=name, namespace="stage") for name in ("one", "two")
    )
    times = iter([0.0, 2.0, 3.0, 7.0])
    monkeypatch.setattr(clock.time, "perf_counter", lambda: next(times))
    watch = Clock()
    watch.before_pipeline_run(Pipeline([]))

    watch.before_dataset_loaded(first)
    watch.after_dataset_saved(first)
    watch.before_dataset_loaded(second)
    watch.after_dataset_saved(second)

    assert watch.seconds == {"stage.one": 3.0, "stage.two": 4.0}
    assert watch.stages == {"stage": 7.0}
