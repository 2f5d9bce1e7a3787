"""What the hooks say about a run, without running one."""

import subprocess
from pathlib import Path

import pytest
from kedro.io.core import Version
from kedro.pipeline import Node, Pipeline
from kedro_datasets.json import JSONDataset

from tckr.classifiers.options import ClassifierOptions
from tckr.hooks import clock
from tckr.hooks.clock import Clock
from tckr.hooks.paths import saved_path
from tckr.hooks.tracking import git_state
from tckr.pipelines.parameters import leaves


def test_typed_options_become_flat_parameters() -> None:
    flat = dict(
        leaves({"classifier": ClassifierOptions(epochs=3), "seed": 1, "plain": {"a": {"b": 2}}})
    )

    assert flat["classifier.epochs"] == 3
    assert flat["classifier.augmentation.shift"] == ClassifierOptions().augmentation.shift
    assert flat["seed"] == 1
    assert flat["plain.a.b"] == 2


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
