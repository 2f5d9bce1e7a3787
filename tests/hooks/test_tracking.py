"""What the hooks say about a run, without running one."""

import math
import sqlite3
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import mlflow
import pandas as pd
import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.io.core import Version
from kedro.pipeline import Node, Pipeline
from kedro_datasets.json import JSONDataset

from tckr.classifiers.options import ClassifierOptions
from tckr.hooks import clock
from tckr.hooks.clock import Clock
from tckr.hooks.lineage import Lineage
from tckr.hooks.mlflow_client import make_database
from tckr.hooks.project import git_state, saved_path
from tckr.hooks.tracking import Tracking
from tckr.options import leaves


def test_typed_options_become_flat_parameters() -> None:
    flat = dict(
        leaves({"classifier": ClassifierOptions(epochs=3), "seed": 1, "plain": {"a": {"b": 2}}})
    )

    assert flat["classifier.epochs"] == 3
    assert flat["classifier.augmentation.shift"] == ClassifierOptions().augmentation.shift
    assert flat["seed"] == 1
    assert flat["plain.a.b"] == 2


class Loader(dict[str, Any]):
    """Configuration that names a database."""

    config_patterns: ClassVar[dict[str, list[str]]] = {}


def hook(
    project: Path,
    uri: str = "sqlite:///mlflow.db",
    location: str | None = None,
    data: str = "data/test",
) -> Tracking:
    """Return the hook of a project in a folder."""
    experiment = {"name": "tckr", "create_experiment_kwargs": {"artifact_location": location}}
    loader = Loader(
        mlflow={
            "server": {"mlflow_tracking_uri": uri},
            "tracking": {"experiment": experiment},
        },
        globals={"data": data},
    )
    context = SimpleNamespace(
        config_loader=loader, project_path=project, _get_config_credentials=dict
    )
    tracking = Tracking(Clock(), Lineage())
    tracking.after_context_created(context)
    return tracking


def begin(tracking: Tracking) -> None:
    """Start a run that saves one thing, a table of figures."""
    figures = JSONDataset(filepath="figures.json", metadata={"mlflow": "metrics"})
    catalog = DataCatalog({"figures": figures, "params:seed": MemoryDataset(3)})
    pipeline = Pipeline([Node(lambda seed: {}, "params:seed", "figures", name="count")])
    tracking.before_pipeline_run(
        {"run_id": "2026-01-01T00.00.00.000Z", "pipeline_names": ["count"]}, pipeline, catalog
    )


def runs(project: Path) -> list[Any]:
    """Return all runs of the project, the newest first."""
    client = mlflow.MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tckr")
    return list(client.search_runs([experiment.experiment_id]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One database for all tests of this file: making it takes seconds."""
    return tmp_path_factory.mktemp("project")


@pytest.mark.parametrize(
    ("way", "status"),
    [
        ("after_pipeline_run", "FINISHED"),
        ("on_pipeline_error", "FAILED"),
        ("on_interrupt", "KILLED"),
    ],
)
def test_how_a_run_ended_is_recorded(
    way: str, status: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "somebody-elses")
    tracking = hook(folder)
    begin(tracking)
    tracking.after_dataset_saved("figures", {"accuracy": 90, "unknown": None}, None)
    getattr(tracking, way)()

    run = runs(folder)[0]
    assert run.info.status == status
    assert run.info.run_name == "count"
    assert run.data.metrics == {"accuracy": 90.0}
    assert run.data.params == {"seed": "3"}
    assert run.data.tags["version"] == "2026-01-01T00.00.00.000Z"
    assert run.data.tags["parent"] == "none"


def test_what_a_killed_process_left_running_is_ended_by_the_next_run(folder: Path) -> None:
    alive, dead = hook(folder), hook(folder)
    begin(alive)
    begin(dead)
    assert dead._run is not None
    name, _, start = dead._run._origin["process"].rpartition("_")
    dead._run._tags["process"] = f"{name}_{float(start) - 60:.2f}"  # of the same number, before us
    for tracking in (alive, dead):
        assert tracking._outbox is not None
        assert tracking._outbox.close()
    found = {run.info.run_id: run.info.status for run in runs(folder)}
    assert found[dead._run._id] == "RUNNING"

    after = hook(folder)
    begin(after)
    after.after_pipeline_run()

    found = {run.info.run_id: run.info.status for run in runs(folder)}
    assert found[dead._run._id] == "KILLED"
    assert found[alive._run._id] == "RUNNING"
    for tracking in (alive, dead):  # nothing is left to end at the exit of the tests
        tracking._run = tracking._outbox = None


def test_a_locked_database_costs_no_run(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    # Seconds; by default SQLite waits for five.
    tracking = hook(folder, "sqlite:///mlflow.db?timeout=0.2")
    with sqlite3.connect(folder / "mlflow.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        begin(tracking)
        outbox = tracking._outbox
        assert outbox is not None
        wait_for(lambda: outbox._failing)
        other.execute("ROLLBACK")
    tracking.after_dataset_saved("figures", {"accuracy": 91}, None)
    tracking.after_pipeline_run()

    assert runs(folder)[0].data.metrics == {"accuracy": 91.0}
    assert runs(folder)[0].info.status == "FINISHED"
    (said,) = [record.message for record in caplog.records]
    assert "cannot be used now" in said
    assert "\n" not in said


def test_nor_does_a_server_that_is_not_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tckr.hooks.outbox.Outbox.close.__defaults__", (0.5, 60.0))
    tracking = hook(tmp_path, "http://127.0.0.1:9")
    begin(tracking)
    tracking.after_pipeline_run()

    first, last = [record.message for record in caplog.records]
    assert first.startswith("MLflow at http://127.0.0.1:9 cannot be used now")
    assert "did not get" in last


def test_nor_a_disk_that_is_full(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tracking = hook(tmp_path)  # a database of its own: its connections stay capped
    begin(tracking)
    assert tracking._run is not None
    outbox, run = tracking._outbox, tracking._run
    assert outbox is not None
    wait_for(lambda: not outbox._waiting)

    def full() -> None:
        store = run._client._tracking_client.store
        with store.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 1")  # no page more than there are
            connection.exec_driver_sql("CREATE TABLE more AS SELECT randomblob(100000)")

    outbox.put(full)
    wait_for(lambda: outbox._failing)
    with outbox._changed:
        outbox._waiting.popleft()
    tracking.after_pipeline_run()

    assert "database or disk is full" in caplog.records[0].message
    assert len(caplog.records) == 1


@pytest.mark.parametrize("epsilon", ["infinity", 1.5])
def test_an_epsilon_without_bound_is_a_tag_and_any_other_a_metric(
    tmp_path: Path, epsilon: float | str
) -> None:
    tracking = hook(tmp_path)
    begin(tracking)
    tracking.after_dataset_saved(
        "figures", {"epsilon": epsilon, "accuracy": 90.0, "mu": None}, None
    )
    tracking.after_pipeline_run()

    (run,) = runs(tmp_path)
    bounded = epsilon != "infinity"
    assert run.data.metrics == {"accuracy": 90.0} | ({"epsilon": epsilon} if bounded else {})
    assert run.data.tags.get("epsilon") == (None if bounded else "infinity")


def test_artefacts_lie_in_the_data_folder_and_are_the_owners_alone(tmp_path: Path) -> None:
    """They show private images; the place does not depend on the environment that ran first."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "report.html").write_text("private")
    for data in ("data/test", "data"):
        tracking = hook(project, data=data)
        begin(tracking)
        tracking._log_path(project / "report.html", "")
        tracking.after_pipeline_run()

    assert len(list(project.glob("data/09_tracking/mlruns/tckr/*/artifacts/report.html"))) == 2
    assert stat.S_IMODE((project / "data/09_tracking/mlruns").stat().st_mode) == 0o700
    assert not (project / "mlruns").exists()


def test_artefacts_go_where_the_user_or_an_older_run_has_put_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")  # a place counts from the project
    (tmp_path / "report.html").write_text("private")
    for location in ("elsewhere", None):  # the second finds the experiment of the first
        tracking = hook(tmp_path, location=location, data=str(tmp_path / "disk"))
        begin(tracking)
        tracking._log_path(tmp_path / "report.html", "")
        tracking.after_pipeline_run()

    assert len(list(tmp_path.glob("elsewhere/*/artifacts/report.html"))) == 2
    assert not (tmp_path / "disk").exists()


def test_a_database_that_is_killed_in_the_making_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(uri: str) -> None:
        Path(uri.removeprefix("sqlite:///")).write_bytes(b"half")
        raise KeyboardInterrupt

    (tmp_path / ".mlflow.db.a.unfinished").touch()  # of one that was killed outright
    with monkeypatch.context() as patch:
        patch.setattr("tckr.hooks.mlflow_client.MlflowClient", killed)
        with pytest.raises(KeyboardInterrupt):
            make_database(tmp_path / "mlflow.db")
    assert not list(tmp_path.iterdir())


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "nothing happened in time"
        time.sleep(0.05)


def test_students_become_nested_runs_of_the_teacher(folder: Path) -> None:
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
    tracking = hook(folder)
    begin(tracking)
    assert tracking._run is not None
    run = tracking._run
    tracking._log_children(table)
    tracking.after_pipeline_run()

    own = next(one for one in runs(folder) if one.info.run_id == run._id)
    nested = [one for one in runs(folder) if one.data.tags.get("mlflow.parentRunId") == run._id]
    nested.sort(key=lambda one: one.data.metrics["accuracy"])
    assert own.data.metrics == {
        "teacher.accuracy": 90.0,
        "teacher.AUC_MIA": 60.0,
        "teacher.TPR_at_1pct_FPR": 2.0,
    }
    assert [one.info.run_name for one in nested] == ["cardinality 0.1", "cardinality 20"]
    assert [one.info.status for one in nested] == ["FINISHED"] * 2
    assert nested[0].data.params == {"cardinality": "0.1", "images": "6"}
    assert nested[0].data.metrics == {"accuracy": 70.0, "AUC_MIA": 51.0}
    assert nested[1].data.metrics["student.TPR_at_1pct_FPR"] == 1.5


def test_an_arm_is_a_nested_run_with_its_name_for_a_tag(folder: Path) -> None:
    table = pd.DataFrame(
        {
            "arm": ["teacher", "unadapted", "private"],
            "epsilon": [math.inf, math.inf, 10.0],
            "delta": [None, None, 4e-5],
            "accuracy": [90.0, 30.0, 84.0],
        }
    )
    tracking = hook(folder)
    begin(tracking)
    assert tracking._run is not None
    run = tracking._run
    tracking._log_children(table)
    tracking.after_pipeline_run()

    own = next(one for one in runs(folder) if one.info.run_id == run._id)
    nested = {
        one.info.run_name: one.data
        for one in runs(folder)
        if one.data.tags.get("mlflow.parentRunId") == run._id
    }
    assert own.data.metrics == {"teacher.accuracy": 90.0}
    assert set(nested) == {"unadapted", "private"}
    assert nested["private"].metrics == {"epsilon": 10.0, "delta": 4e-5, "accuracy": 84.0}
    assert nested["unadapted"].metrics == {"accuracy": 30.0}
    assert nested["unadapted"].tags["epsilon"] == "infinity"
    assert {name: one.tags["arm"] for name, one in nested.items()} == {n: n for n in nested}


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
