"""The arms under differential privacy as their users meet them: a run, its ledger, its report, and a run that goes on."""

import json
import os
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from kedro.framework.startup import bootstrap_project

from tckr.cli import run
from tckr.diffusion.adapter import Adapter
from tckr.diffusion.stored import load_trained
from tckr.diffusion.update import DenoiserUpdate
from tckr.dp import Ledger

ROOT = Path(__file__).parents[2]
SMALL = "privacy_audit.scope=distillation,privacy_audit.attribution=false,privacy_audit.n_shadows=4"
# The shipped captioner: a tiny one with random weights says nothing that could be counted.
CAPTIONER = f"private.captioning.captioner={ROOT}/data/06_models/foundation/captioner"
SHORT = f"{SMALL},{CAPTIONER},private.words.pairs=never"


@pytest.fixture(autouse=True)
def inside(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)


def kedro(*arguments: str) -> Any:
    return CliRunner().invoke(run, ["--env=test", *arguments], obj=bootstrap_project(Path.cwd()))


def newest(layer: str, arm: str, entry: str) -> Path:
    return max(Path("data/test", layer, arm, entry).iterdir()) / entry


@pytest.mark.slow
def test_a_private_run_ends_with_a_ledger_and_goes_on_without_spending_again() -> None:
    # Too little time for four shadows: refused once everything before the audit is made.
    cut = kedro("--pipeline=private", f"--params={SHORT},privacy_audit.time_budget_minutes=0.00001")
    assert cut.exit_code == 1
    assert "time_budget_minutes" in cut.output
    spent = json.loads((newest("06_models", "private", "words_charge") / "value.json").read_text())
    done = kedro("--pipeline=private", f"--params={SHORT},resume=last")
    assert done.exit_code == 0, done.output
    ledger = Ledger.from_json(newest("07_model_output", "private", "ledger.json").read_text())
    assert [entry.name for entry in ledger] == ["words", "teacher"]
    assert ledger.private
    assert 999 < ledger.epsilon(spent=True) <= 1000
    # The noisy answer is the first run's, and so is the moment at which it was paid for.
    assert ledger["words"].model_dump(mode="json")["spent"] == spent["spent"]

    audit = json.loads(newest("08_reporting", "private", "audit.json").read_text())
    assert set(audit["things"]) == {"teacher", "student", "weights", "released", "images"}
    assert audit["guarantee"]["epsilon"] == pytest.approx(ledger.epsilon())
    assert "What is proven" in newest("08_reporting", "private", "report.html").read_text()
    released = max(Path("data/test/09_release/private").glob("2*"))
    certificate = json.loads((released / "certificate.json").read_text())["identifiability"]
    assert certificate["guarantee"]["epsilon"] == pytest.approx(ledger.epsilon())
    assert certificate["limit"]["tpr"][-1] == 1
    assert json.loads((released / "ledger.json").read_text())["entries"]
    assert not (released / "adapter").exists()  # without a share it changes nothing
    recycled = pd.read_parquet(newest("07_model_output", "private", "recycled_set") / "data")
    assert len(recycled) == 60
    assert "prompt" not in recycled

    (release,) = Path("data/test/09_release/private").glob("[!.]*")
    record = yaml.safe_load((release / "deployment.yml").read_text())["deployment"]
    proven = {"epsilon": audit["guarantee"]["epsilon"], "delta": audit["guarantee"]["delta"]}
    assert record["privacy_loss"]["privacy_parameters"] == proven
    assert ledger.data_hash not in "".join(
        file.read_text() for file in release.iterdir() if file.is_file()
    )
    verified = kedro("--pipeline=verify_release", f"--params=release={release}")
    assert verified.exit_code == 0, verified.output
    mlflow.set_tracking_uri(f"sqlite:///{Path.cwd() / 'mlflow.db'}")
    (found,) = mlflow.search_runs(
        experiment_names=["tckr"],
        filter_string="tags.pipeline_names LIKE '%private%'",
        max_results=1,
        output_format="list",
    )
    assert {"accuracy", "AUC_MIA", "AOP", "epsilon", "delta", "mu"} <= set(found.data.metrics)


@pytest.mark.slow
def test_privimage_runs_from_public_images_to_an_audited_student() -> None:
    done = kedro("--pipeline=privimage", f"--params={SMALL}")
    assert done.exit_code == 0, done.output
    ledger = Ledger.from_json(newest("07_model_output", "privimage", "ledger.json").read_text())
    assert [entry.name for entry in ledger] == ["query", "generator adaptation", "teacher"]
    assert newest("08_reporting", "privimage", "chosen_sheet.png").is_file()

    # What may be handed out is attacked, with what the whole ledger proves beside it.
    audit = json.loads(newest("08_reporting", "privimage", "audit.json").read_text())
    models = {"teacher", "student", "weights", "released"}
    assert set(audit["things"]) == {*models, "generator", "images"}
    assert "trained under differential privacy" in audit["things"]["generator"]["assumes"]
    compared = [row for row in audit["guarantee"]["compared"] if row["thing"] == "generator"]
    assert {row["attack"] for row in compared} >= {"loss", "loss_calibrated"}
    metrics = json.loads(newest("08_reporting", "privimage", "metrics.json").read_text())
    assert "generator.AUC_MIA" in metrics
    assert "Generator (white box)" in newest("08_reporting", "privimage", "report.html").read_text()
    released = max(Path("data/test/09_release/privimage").glob("2*"))
    certificate = json.loads((released / "certificate.json").read_text())["identifiability"]
    assert certificate["rows"]["generator"]["title"] == "Generator (white box)"
    # What is released fits the generator as it was downloaded: the public images' part is in it.
    adapter = Adapter.load(released / "adapter").weights
    parts = [
        load_trained(newest("06_models", "privimage", n)).weights for n in ("pretrained", "adapter")
    ]
    assert adapter.keys() == parts[0].keys() | parts[1].keys()
    shared = next(n for n in parts[0].keys() & parts[1].keys() if n.endswith("lora_A.weight"))
    assert len(adapter[shared]) == sum(len(each[shared]) for each in parts)


@pytest.mark.slow
@pytest.mark.skipif("TCKR_LONG" not in os.environ, reason="takes a minute: set TCKR_LONG=1")
def test_a_private_arm_that_adapts_its_generator_has_the_row_of_it_too() -> None:
    done = kedro("--pipeline=private", f"--params={SHORT},private.privacy.adaptation=0.5")
    assert done.exit_code == 0, done.output
    audit = json.loads(newest("08_reporting", "private", "audit.json").read_text())
    assert "generator" in audit["things"]
    assert "generator" in {row["thing"] for row in audit["guarantee"]["compared"]}
    released = max(Path("data/test/09_release/private").glob("2*"))
    assert (released / "adapter").is_dir()


@pytest.mark.slow
@pytest.mark.skipif("TCKR_LONG" not in os.environ, reason="takes twenty seconds: set TCKR_LONG=1")
def test_every_weight_of_the_denoiser_is_adapted_if_asked_for() -> None:
    full = "privimage.generator_adaptation.method=full,privimage.privacy.epsilon=1000"
    done = kedro(
        "--pipeline=privimage",
        f"--params={full}",
        "--to-outputs=privimage.ledger,privimage.recycled_set",
    )
    assert done.exit_code == 0, done.output
    made = load_trained(newest("06_models", "privimage", "adapter"))
    assert isinstance(made, DenoiserUpdate)
    ledger = Ledger.from_json(newest("07_model_output", "privimage", "ledger.json").read_text())
    assert ledger["generator adaptation"].spent
    assert ledger.epsilon(spent=True) <= 1000

    refused = kedro("--pipeline=privimage", f"--params={full[:-2]}")  # epsilon 10 drowns in so many
    assert refused.exit_code == 1
    size = sum(each.numel() for each in made.weights.values())
    assert f"the noise on its {size:,} numbers" in refused.output


@pytest.mark.slow
def test_a_budget_that_leaves_noise_alone_is_refused_before_anything_is_read() -> None:
    refused = kedro("--pipeline=private", f"--params={SHORT},private.privacy.epsilon=0.01")
    assert refused.exit_code == 1
    assert "More noise than signal" in refused.output
    assert "at least" in refused.output  # how many images would do


@pytest.mark.slow
def test_noise_from_a_seed_is_said_and_not_exported() -> None:
    tested = kedro(
        "--pipeline=private",
        f"--params={CAPTIONER},private.words.pairs=never,private.privacy.noise_seed=1",
        "--to-outputs=private.ledger,private.recycled_set",
    )
    assert tested.exit_code == 0, tested.output
    card = (newest("07_model_output", "private", "recycled_set") / "README.md").read_text()
    assert "came from a seed" in card
    refused = kedro("--pipeline=private.export")
    assert refused.exit_code == 1
    assert "Not private: some noise came from a seed" in refused.output


@pytest.mark.slow
def test_spti_runs_from_votes_to_an_audited_student_and_keeps_its_pictures() -> None:
    done = kedro("--pipeline=spti", f"--params={SMALL}")
    assert done.exit_code == 0, done.output
    ledger = Ledger.from_json(newest("07_model_output", "spti", "ledger.json").read_text())
    assert [entry.name for entry in ledger] == ["votes", "teacher"]
    assert ledger["votes"].steps == 2
    population = pd.read_parquet(newest("06_models", "spti", "population") / "table.parquet")
    assert population.groupby("label").size().tolist() == [2, 2, 2]
    for picture in ("best_prompts.png", "distance_curve.png"):
        assert newest("08_reporting", "spti", picture).is_file()


@pytest.mark.slow
@pytest.mark.skipif("TCKR_LONG" not in os.environ, reason="takes twenty seconds: set TCKR_LONG=1")
def test_owners_vote_in_a_run_and_in_its_shadows() -> None:
    """Images whose numbers end alike are of one person. Nobody asks a teacher that was not trained."""
    owners = "spti.voting.per=owner,ingestion.group_pattern=([0-9]?[0-9])[.]png"
    published = "spti.privacy.teacher=0,spti.student_training.labels=hard"
    whole = SMALL.replace("scope=distillation", "scope=pipeline")
    done = kedro("--pipeline=spti", f"--params={whole},{owners},{published}")
    assert done.exit_code == 0, done.output
    assert "According to the teacher" not in done.output
    ledger = Ledger.from_json(newest("07_model_output", "spti", "ledger.json").read_text())
    assert [(entry.name, entry.cells) for entry in ledger] == [("votes", 2)]
    card = (newest("07_model_output", "spti", "recycled_set") / "README.md").read_text()
    assert "According to the teacher" not in card

    refused = kedro("--pipeline=spti", "--params=spti.voting.per=owner")
    assert refused.exit_code == 1
    assert "spti.voting.per is owner, and nothing says whose" in refused.output
    assert "ingestion.group_column" in refused.output


@pytest.mark.slow
def test_a_study_of_the_true_distance_is_not_exported() -> None:
    studied = kedro(
        "--pipeline=spti",
        "--params=spti.privacy.research=true",
        "--to-outputs=spti.ledger,spti.recycled_set",
    )
    assert studied.exit_code == 0, studied.output
    card = (newest("07_model_output", "spti", "recycled_set") / "README.md").read_text()
    assert "not private" in card
    refused = kedro("--pipeline=spti.export")
    assert refused.exit_code == 1
    assert "Not private: true distance to the private images" in refused.output
