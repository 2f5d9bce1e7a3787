"""A run as a process of its machine: where it starts, whom it talks to, and how it ends when it is told to."""

import json
import signal
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest

from conftest import ROOT, start_kedro

# Imported by Python itself at the start of every process, workers included.
LISTENER = """
import os, socket

def heard(host, *rest, asked=socket.getaddrinfo, **more):
    with open(os.environ["HEARD"], "a") as file:
        file.write(f"{host}\\n")
    raise socket.gaierror(f"{host} is not there")

socket.getaddrinfo = heard
"""
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def started(project: Path, tmp_path: Path) -> Start:
    """Start a run from a subfolder of the project; every name that is looked up is written down."""
    (tmp_path / "sitecustomize.py").write_text(LISTENER)
    (tmp_path / "heard").touch()

    def start(*arguments: str, **variables: str) -> subprocess.Popen[str]:
        path = f"{tmp_path}:{ROOT / 'src'}"
        folder = project / "conf/base"
        return start_kedro(
            folder,
            "run",
            "--env=test",
            *arguments,
            PYTHONPATH=path,
            HEARD=str(tmp_path / "heard"),
            **variables,
        )

    return start


def test_a_run_from_a_subfolder_is_the_projects_and_asks_nobody(
    project: Path, private_images: Path, started: Start, tmp_path: Path
) -> None:
    before = set((project / "conf/base").iterdir())
    run = started(
        "--pipelines=captioning",
        f"--params=images=~/{private_images.name},ingestion.licence=1",
        HOME=str(private_images.parent),
        MLFLOW_RUN_ID="somebody-elses",
    )
    output, errors = run.communicate(timeout=300)

    assert run.returncode == 0, output + errors
    assert set((project / "conf/base").iterdir()) == before
    assert not set((tmp_path / "heard").read_text().split()) - {"localhost", "127.0.0.1", "::1"}
    report = max((project / "data/test/08_reporting/ingestion_report.json").iterdir())
    assert json.loads((report / "ingestion_report.json").read_text())["licence"] == "1"
    for path in (
        report,
        report / "ingestion_report.json",
        project / "mlflow.db",
        project / "data/09_tracking/mlruns",
    ):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
    assert not (project / "mlruns").exists()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_told_to_end_leaves_word_and_nothing_else(
    how: signal.Signals, project: Path, started: Start
) -> None:
    run = started("--pipelines=captioning")
    assert run.stdout is not None
    lines = iter(run.stdout.readline, "")
    assert any("ingestion.ingest" in line for line in lines if line)
    run.send_signal(how)
    _, errors = run.communicate(timeout=120)

    assert run.returncode == 128 + how
    said = errors.strip().splitlines()
    assert said[-1].startswith(f"Error: Stopped by {how.name}.")
    assert "Traceback" not in errors
    client = mlflow.MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    newest = client.search_runs([client.get_experiment_by_name("tckr").experiment_id])[0]
    assert newest.info.status == "KILLED"
    assert not list((project / "data/test/02_intermediate/scratch").glob("*"))
