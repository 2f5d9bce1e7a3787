"""Three first runs that start at once in a fresh folder: each ends with the figures that it has alone."""

from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner
from kedro.framework.startup import bootstrap_project

from conftest import start_kedro
from tckr.cli import run
from tckr.lineage import Manifest, Runs, hash_files
from tiny import make_project

SMALL = (
    "privacy_audit.scope=distillation,privacy_audit.attribution=false,privacy_audit.n_shadows=4,"
    "knowledge_recycling.sampling.workers=2"  # as base has it: each run with two processes of its own
)
SEEDS = ("0", "0", "1")  # those of the very same work meet in its checkpoints
COMPARED = ("metrics", "recycled_set", "student", "captions")


def contents(project: Path, one: Manifest) -> dict[str, str]:
    view = one.view()
    return {name: hash_files(project / view[name].path) for name in COMPARED}


@pytest.mark.slow
def test_three_first_runs_at_once_end_as_each_does_alone(
    tmp_path: Path, private_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "project").mkdir()
    project = make_project(tmp_path / "project", private_images)
    runs = Runs(project / "data/test/runs")

    started = [
        start_kedro(project, "run", "--env=test", f"--params={SMALL},seed={seed}") for seed in SEEDS
    ]
    for process in started:
        output, errors = process.communicate(timeout=600)
        assert process.returncode == 0, output + errors

    crowd = runs.newest_first()
    assert sorted(one.given["seed"] for one in crowd) == list(SEEDS)
    assert {one.status for one in crowd} == {"finished"}
    for one in crowd:
        assert {made.run for made in one.artefacts.values()} == {one.run}
    client = mlflow.MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tckr")
    tracked = client.search_runs([experiment.experiment_id])
    assert {one.data.tags["version"] for one in tracked} == {one.run for one in crowd}
    assert {one.info.status for one in tracked} == {"FINISHED"}
    assert (project / "mlflow.db").stat().st_mode & 0o077 == 0
    kept = [*(project / "data").rglob(".*"), *(project / "data/test/02_intermediate").rglob("*")]
    assert not [path for path in kept if path.is_file()]

    monkeypatch.chdir(project)
    alone = {}
    for seed in sorted(set(SEEDS)):
        done = CliRunner().invoke(
            run, ["--env=test", f"--params={SMALL},seed={seed}"], obj=bootstrap_project(project)
        )
        assert done.exit_code == 0, done.output
        alone[seed] = contents(project, runs.newest_first()[0])
    assert alone["0"]["metrics"] != alone["1"]["metrics"]
    for one in crowd:
        assert contents(project, one) == alone[one.given["seed"]], one.run
