"""The options that every arm shares, all on in one run: filter, slices, fresh images, and shadows that repeat them."""

import json
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from click.testing import CliRunner
from kedro.framework.startup import bootstrap_project

from tckr.cli import run
from tckr.images.ingest import ingest
from tckr.images.options import IngestionOptions
from tckr.images.tables import of_split

ROOT = Path(__file__).parents[2]
# The shipped generator: what a tiny one with random weights draws, no teacher recognises.
GENERATOR = f"generator_adaptation.generator={ROOT}/data/06_models/foundation/generator"
CLASSES = ("Bag", "Trouser")  # which a teacher of some ten images tells apart
SIZES = "ingestion.size=28,ingestion.members=40,ingestion.holdout=40,ingestion.validation=10,ingestion.test=20"
FILTER = "knowledge_recycling.filter.threshold=0.2,knowledge_recycling.filter.max_draws=50"
AUDIT = "privacy_audit.n_shadows=4,privacy_audit.attribution=false,classifier.epochs=12,classifier.batch_size=16"
MIXED = "knowledge_recycling.mixture=[{seed: 1, weight: 0.5}, {arm: unadapted, weight: 0.5}]"
FRESH = "knowledge_recycling.slices=2,student_training.regenerate.every=1"


@pytest.fixture(autouse=True)
def inside(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)


@pytest.fixture(scope="module")
def fashion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of two classes of the shipped set, a folder each."""
    folder = tmp_path_factory.mktemp("fashion")
    images, _ = ingest(
        ROOT / "data/01_raw/fashion_mnist",
        IngestionOptions(members=1000, holdout=20, validation=20, test=20),
        seed=0,
    )
    for name in CLASSES:
        (folder / name).mkdir()
        of_class = of_split(images, "members").query("class_name == @name")
        for number, image in enumerate(of_class["image"]):
            (folder / name / f"{number}.png").write_bytes(image)
    return folder


def kedro(*arguments: str) -> Any:
    return CliRunner().invoke(run, ["--env=test", *arguments], obj=bootstrap_project(Path.cwd()))


def newest(entry: str) -> Path:
    return max(Path("data/test", entry).iterdir()) / Path(entry).name


@pytest.mark.slow
def test_a_run_with_all_options_says_so_everywhere_and_is_audited_as_it_was_made(
    fashion: Path,
) -> None:
    places = f"images={fashion},{GENERATOR},{SIZES},{AUDIT}"
    done = kedro("--pipeline=tckr", f"--params={places},{FILTER},{FRESH},{MIXED}")
    assert done.exit_code == 0, done.output
    assert "with a probability above 0.2 were drawn again" in done.output
    assert "fresh images every 1 epochs" in done.output

    recycled = pd.read_parquet(newest("07_model_output/recycled_set") / "data")
    assert len(recycled) == 80
    assert recycled["slice"].value_counts().to_dict() == {0: 40, 1: 40}
    assert set(recycled["source"]) == {"own", "seed 1", "unadapted"}
    assert ((recycled["source"] == "unadapted") == (recycled["generator"] == "base")).all()
    soft = pd.DataFrame(recycled["soft_label"].tolist()).to_numpy()
    assert (soft.argmax(1) == recycled["label"]).all()
    assert (soft.max(1) > 0.2).all()
    recipe = json.loads(newest("07_model_output/student_recipe.json").read_text())
    assert recipe["distillation"]["regenerate"] == {"every": 1, "slices": 2}

    report = json.loads(newest("08_reporting/drawing_report.json").read_text())
    page = newest("08_reporting/report.html").read_text()
    card = (newest("07_model_output/recycled_set") / "README.md").read_text()
    assert report["described"][0] in page
    assert "fresh images every epoch: the next of 2 slices" in page
    assert "were drawn again" in card
    assert "3 generators take turns: own 50 %; seed 1 25 %; unadapted 25 %" in card
    assert "Images by generator: own " in page

    mlflow.set_tracking_uri(f"sqlite:///{Path.cwd() / 'mlflow.db'}")
    (found,) = mlflow.search_runs(
        experiment_names=["tckr"],
        filter_string="tags.pipeline_names LIKE '%tckr%'",
        max_results=1,
        output_format="list",
    )
    assert found.data.metrics["rejected"] == pytest.approx(report["figures"]["rejected"])
    assert {f"rejected.{name}" for name in CLASSES} <= set(found.data.metrics)
    assert "were drawn again" in found.data.tags["drawing_report"]
    assert found.data.params["student_training.regenerate.every"] == "1"

    # A set without slices has nothing fresh to show.
    refused = kedro("--pipeline=student_training", "--params=student_training.regenerate.every=1")
    assert refused.exit_code == 1
    assert "has one slice alone" in refused.output


@pytest.mark.slow
def test_the_control_may_not_filter() -> None:
    refused = kedro(
        "--pipeline=unadapted", "--params=unadapted.knowledge_recycling.filter.threshold=0"
    )
    assert refused.exit_code == 1
    assert "nothing private may reach this control" in refused.output
