"""A run that was killed, and killed again while it was resumed, ends as one that nobody disturbed."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner
from kedro.framework.startup import bootstrap_project

from tckr.cli import run
from tckr.lineage import Manifest, Runs, hash_files
from tiny import ROOT

Done = subprocess.CompletedProcess[str]
COMMAND = ("run", "--env=test", "--pipeline=knowledge_recycling")
DATA = "data/test"
# Run Kedro, and die as by kill -9 at the moment in which the artefact of that name would get its name.
DIE_WRITING = """\
import os, pathlib, signal, sys
name = sys.argv.pop(1)
def deadly(move):
    def moved(source, target):
        if pathlib.Path(target).name == name:
            os.kill(os.getpid(), signal.SIGKILL)
        return move(source, target)
    return moved
pathlib.Path.rename, pathlib.Path.replace = deadly(pathlib.Path.rename), deadly(pathlib.Path.replace)
from kedro.framework.cli import main
sys.argv[0] = "kedro"
main()
"""


def killed_writing(name: str, project: Path, *more: str) -> None:
    """Start a run that dies, as by kill -9, when this artefact has been written but has not got its name."""
    done = subprocess.run(
        [sys.executable, "-c", DIE_WRITING, name, *COMMAND, *more],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "KEDRO_DISABLE_TELEMETRY": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr


def content(project: Path, manifest: Manifest, entry: str) -> str:
    return hash_files(project / manifest.view()[entry].path)


@pytest.mark.slow
def test_two_kills_change_nothing(inside: Path, finished: Done, kedro: Callable[..., Done]) -> None:
    runs = Runs(inside / DATA / "runs")
    undisturbed = next(one for one in runs.newest_first() if one.command.endswith(COMMAND[-1]))

    killed_writing("adapter", inside)
    killed_writing("student", inside, "--params=resume=last")
    done = kedro(*COMMAND, "--params=resume=last")

    assert done.returncode == 0, done.stdout + done.stderr
    last, second, first = runs.newest_first()[:3]
    assert [one.status for one in (first, second, last)] == ["killed", "killed", "finished"]
    assert (second.resumes, last.resumes) == (first.run, second.run)
    assert f"resumes run {second.run} (killed): takes up images" in done.stdout
    assert "AUC_MIA" in done.stdout
    made_in = {entry: made.run for entry, made in last.artefacts.items()}
    assert made_in["captions"] == first.run
    assert made_in["adapter"] == made_in["recycled_set"] == second.run
    assert made_in["student"] == made_in["report"] == last.run
    assert last.artefacts.keys() == undisturbed.artefacts.keys()
    for entry in ("metrics", "recycled_set", "student", "adapter", "membership_matrix"):
        assert content(inside, last, entry) == content(inside, undisturbed, entry), entry

    # Nothing half-written is left, neither of the catalog's nor to resume from.
    assert not [path for path in (inside / DATA).rglob(".*") if "-" in path.name]
    kept = (inside / DATA / "02_intermediate").rglob("*")
    assert not [path for path in kept if path.is_file()]
    for killed, entry in ((first, "06_models/adapter"), (second, "07_model_output/student")):
        assert not (inside / DATA / entry / killed.run).exists()

    # In MLflow the last run is as whole as any.
    mlflow.set_tracking_uri("sqlite:///mlflow.db")
    tracked = {
        one.data.tags["version"]: one
        for one in mlflow.search_runs(experiment_names=["tckr"], output_format="list")
        if "version" in one.data.tags
    }
    assert tracked[first.run].info.status == tracked[second.run].info.status == "KILLED"
    assert tracked[last.run].data.tags["resumes"] == second.run
    whole = tracked[undisturbed.run].data
    assert {name for name in whole.metrics if not name.startswith("seconds.")} == {
        name for name in tracked[last.run].data.metrics if not name.startswith("seconds.")
    }

    refused = CliRunner().invoke(
        run, ["--env=test", f"--params=resume={last.run}"], obj=bootstrap_project(inside)
    )
    assert f"Run {last.run} is finished, and nothing" in refused.output
