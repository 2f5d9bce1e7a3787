"""The product as its user meets it: commands in, figures, folders and readable errors out."""

import html
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from click.testing import CliRunner
from kedro.framework.startup import bootstrap_project
from safetensors.torch import load_file

import datasets
from tckr.cli import run
from tckr.images.degenerate import RunWarning
from tckr.images.names import markdown
from tckr.lineage import hash_files

Done = subprocess.CompletedProcess[str]
DATA = "data/test"


def latest(project: Path, entry: str) -> Path:
    """Newest version of what lies at `entry` below the data folder."""
    version = max((project / DATA / entry).iterdir(), key=lambda path: path.name)
    return version / Path(entry).name


def in_process(project: Path, *arguments: str) -> Any:
    return CliRunner().invoke(run, ["--env=test", *arguments], obj=bootstrap_project(project))


def test_the_plan_and_the_table_are_printed(finished: Done) -> None:
    for words in (
        "generator_adaptation",
        "real data (teacher)",
        "recycled (student)",
        "AUC_MIA",
        "AOP",
        "epsilon: infinity: nothing is proven, leaks are measured",
        "report.html",
    ):
        assert words in finished.stdout, words


def test_figures_agree_everywhere(project: Path, finished: Done) -> None:
    metrics = json.loads(latest(project, "08_reporting/metrics.json").read_text())
    audit = json.loads(latest(project, "08_reporting/audit.json").read_text())

    student = audit["things"]["student"]
    assert metrics["accuracy"] == student["accuracy"]
    assert metrics["AUC_MIA"] == pytest.approx(
        100 * student["attacks"][student["primary_attack"]]["auc"]["value"]
    )
    assert metrics["AUC_MIA_low"] <= metrics["AUC_MIA"] <= metrics["AUC_MIA_high"]
    assert metrics["AOP"] == pytest.approx(
        metrics["accuracy"] / max(metrics["AUC_MIA"] / 50, 1) ** 2
    )
    assert f"{metrics['teacher.accuracy']:.1f}" in finished.stdout


def test_the_recycled_set_opens_without_tckr(project: Path, finished: Done, tmp_path: Path) -> None:
    folder = latest(project, "07_model_output/recycled_set")
    table = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path))

    assert len(table) == 60
    assert table[0]["image"].size == (16, 16)
    assert abs(sum(table[0]["soft_label"]) - 1) < 1e-5
    assert table.features["label"].names == ["disc", "frame", "stripes"]
    assert (folder / "README.md").is_file()


def test_everything_released_is_attacked_on_its_own(project: Path, finished: Done) -> None:
    audit = json.loads(latest(project, "08_reporting/audit.json").read_text())
    plan = json.loads(latest(project, "07_model_output/audit_plan.json").read_text())

    assert audit["plan"] == plan
    things = audit["things"]
    assert things["student"]["scope"] == "pipeline"
    assert things["generator"]["n_shadows"] == things["student"]["n_shadows"] == plan["n_shadows"]
    models = ("student", "weights", "released", "teacher")
    for name in (*models, "generator", "joint", "images", "prompts"):
        for attack, figures in things[name]["attacks"].items():
            assert 0 <= figures["auc"]["low"] <= figures["auc"]["high"] <= 1, attack
            assert len(figures["tprs"]) == 3
    assert {"loss_rmia", "pia_rmia"} <= set(things["generator"]["attacks"])
    assert [row["space"] for row in audit["extraction"]] == ["pixels", "encoder"]
    shares = {row["channel"]: row["share"] for row in audit["attribution"]["channels"]}
    total = shares.pop("all")
    assert sum(shares.values()) == pytest.approx(total)
    left = [file for file in (project / DATA / "02_intermediate").rglob("*") if file.is_file()]
    assert not left  # to resume from


def test_who_is_exposed_stays_with_the_owner(project: Path, finished: Done) -> None:
    table = pd.read_parquet(latest(project, "08_reporting/vulnerability.parquet"))
    released = latest(project, "07_model_output/recycled_set")
    handed_out = pd.read_parquet(released / "data")

    assert table["rank"].tolist() == list(range(1, 121))
    assert set(table["split"]) == {"members", "holdout"}
    assert not {"split_member", "is_member", "separation", "rank"} & set(handed_out)
    assert not list(released.rglob("*vulnerab*"))


def test_no_private_image_is_in_the_recycled_set(project: Path, finished: Done) -> None:
    private = pd.read_parquet(latest(project, "03_primary/images") / "data")
    recycled = pd.read_parquet(latest(project, "07_model_output/recycled_set") / "data")

    assert not set(private["image_id"]) & set(recycled["image_id"])


def test_the_student_is_plain_safetensors(project: Path, finished: Done) -> None:
    folder = latest(project, "07_model_output/student")

    assert load_file(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    assert config["n_classes"] == 3
    assert config["id2label"] == {"0": "disc", "1": "frame", "2": "stripes"}
    assert config["label2id"] == {"disc": 0, "frame": 1, "stripes": 2}


def test_what_is_poor_is_said_wherever_it_is_read(project: Path, finished: Done) -> None:
    """A teacher of two epochs and an untrained generator deserve a warning."""
    found = json.loads(latest(project, "08_reporting/warnings.json").read_text())
    page = latest(project, "08_reporting/report.html").read_text()
    card = (latest(project, "07_model_output/recycled_set") / "README.md").read_text()

    assert found
    for warning in found:
        assert warning["text"] in finished.stdout
        assert html.escape(warning["text"]).replace("&#x27;", "&#39;") in page
        assert markdown(RunWarning(**warning).for_release) in card


def test_the_recycled_set_is_exported(inside: Path, finished: Done) -> None:
    done = in_process(inside, "--pipeline=export", "--params=format=folder")

    assert done.exit_code == 0, done.output
    folder = latest(inside, "07_model_output/export")
    assert sorted(path.name for path in (folder / "train").iterdir()) == [
        "disc",
        "frame",
        "stripes",
    ]
    assert len(list((folder / "train").rglob("*.png"))) == 60
    refused = in_process(inside, "--pipeline=export", "--params=format=zip")
    assert "Parameter format = 'zip' is refused" in refused.output


def test_the_release_can_be_read_by_others_and_nothing_else(project: Path, finished: Done) -> None:
    os.umask(mask := os.umask(0))
    place = project / DATA
    names = {"recycled_set", "student"}
    if (place / "07_model_output/export").exists():  # where another test has made it
        names.add("export")
    release = {latest(project, f"07_model_output/{name}") for name in names}
    if (place / "09_release").exists():
        names.add("09_release")
        release |= set((place / "09_release").iterdir())
    way = {
        folder for one in release for folder in one.parents if folder.is_relative_to(place.parent)
    }
    public = place / "06_models/foundation"  # where another test has trained it
    for path in (place.parent, place, *place.rglob("*")):
        if public.exists() and (path in public.parents or public in (path, *path.parents)):
            continue
        mode = path.stat().st_mode & 0o777
        if path in way or release & {path, *path.parents}:
            assert mode & 0o055 == (0o055 if path.is_dir() else 0o044) & ~mask, path
        elif not names & set(path.parts):
            assert not mode & 0o077, path
    assert not list(place.rglob("*.pickle"))


def test_the_report_stands_alone(project: Path, finished: Done) -> None:
    page = latest(project, "08_reporting/report.html").read_text()

    assert page.count("data:image/png;base64,") == 9
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "labels are the channel to watch" in page
    assert "not measurable with 60 non-members" in page


def test_the_run_is_tracked(inside: Path, finished: Done) -> None:
    mlflow.set_tracking_uri("sqlite:///mlflow.db")
    version = min((inside / DATA / "08_reporting/metrics.json").iterdir()).name
    (found,) = mlflow.search_runs(
        experiment_names=["tckr"],
        filter_string=f"tags.version = '{version}'",
        output_format="list",
    )
    files = {file.path for file in mlflow.MlflowClient().list_artifacts(found.info.run_id)}

    assert found.info.status == "FINISHED"
    assert found.data.tags["version"] == found.data.tags["run_id"] == version
    assert len(found.data.tags["data_hash"]) == 64
    assert found.data.tags["epsilon"] == "infinity"
    assert "epsilon" not in found.data.metrics
    assert found.data.params["knowledge_recycling.cardinality"] == "1.0"
    assert found.data.params["classifier.augmentation.flip"] == "True"
    assert not [name for name, value in found.data.params.items() if "Options(" in value]
    assert {
        "accuracy",
        "AUC_MIA",
        "AOP",
        "teacher.accuracy",
        "teacher.AUC_MIA",
        "teacher.AOP",
        "AOP_low",
        "teacher.AUC_MIA_high",
        "released.AUC_MIA",
        "weights.AUC_MIA_low",
        "generator.AUC_MIA",
        "images.AUC_MIA_low",
        "prompts.AUC_MIA_high",
    } <= set(found.data.metrics)
    assert found.data.metrics["seconds.privacy_audit"] > 0
    assert {"report.html", "audit.json", "recycled_sheet.png", "roc.png", "student"} <= files
    assert {"attribution.png", "closest_pairs.png", "score_histograms.png"} <= files
    history = mlflow.MlflowClient().get_metric_history(found.info.run_id, "adaptation_losses.loss")
    assert [point.step for point in history] == [1, 2, 3]


def test_same_seed_same_set_and_student_and_old_versions_return(
    inside: Path, finished: Done
) -> None:
    """Their figures follow from them: `test_killed_runs.py` compares those too."""
    made = ("07_model_output/recycled_set", "07_model_output/student")
    first = [latest(inside, entry) for entry in made]
    old = first[0].parent.name

    again = in_process(
        inside,
        "--from-nodes=generator_adaptation.adapt_generator,knowledge_recycling.train_teacher",
        "--to-outputs=student",
        f"--load-versions=images:{old},captions:{old}",
    )

    assert again.exit_code == 0, again.output
    for before, after in zip(first, (latest(inside, entry) for entry in made), strict=True):
        assert after != before
        assert hash_files(after) == hash_files(before)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["ingestion", "captioning", "generator_adaptation", "student_training"]
)
def test_every_name_runs_from_raw_files(name: str, inside: Path) -> None:
    done = in_process(inside, f"--pipelines={name}")

    assert done.exit_code == 0, done.output
    assert f"tckr {name}" in done.output


@pytest.mark.parametrize(
    "control",
    [
        "knowledge_recycling.generator=base,knowledge_recycling.prompts=class_names"
        ",knowledge_recycling.release_prompts=true",
        "knowledge_recycling.cardinality=0.5",
    ],
)
def test_controls_are_one_parameter_away(control: str, inside: Path, finished: Done) -> None:
    done = in_process(inside, "--namespaces=knowledge_recycling", f"--params={control}")

    assert done.exit_code == 0, done.output
    recycled = pd.read_parquet(latest(inside, "07_model_output/recycled_set") / "data")
    if "base" in control:
        assert set(recycled["generator"]) == {"base"}
        assert set(recycled["prompt"]) == {"disc", "frame", "stripes"}
    else:
        assert len(recycled) == 30
        assert "prompt" not in recycled  # captions of members are withheld


@pytest.mark.parametrize("labels", ["hard", "stored"])
def test_a_stage_reruns_alone(labels: str, inside: Path, finished: Done) -> None:
    done = in_process(
        inside, "--namespaces=student_training", f"--params=student_training.labels={labels}"
    )

    assert done.exit_code == 0, done.output
    recipe = json.loads(latest(inside, "07_model_output/student_recipe.json").read_text())
    assert recipe["distillation"]["labels"] == labels


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--params=captionning.batch_size=1"],
            "Parameter captionning does not exist. Remedy: did you mean captioning?",
        ),
        (["--params=classifier.epoch=1"], "did you mean classifier.epochs?"),
        (
            ["--params=knowledge_recycling.cardinality=-1"],
            "Parameter knowledge_recycling.cardinality = -1 is refused",
        ),
        (
            ["--params=privacy_audit.scope=distillation"],
            "The parameters of privacy_audit do not go together: attribution needs scope: pipeline",
        ),
        (["--params=images=/nowhere"], "There are no images at /nowhere."),
        (["--params=captioning.captioner=/nowhere"], "/nowhere"),
        (["--params=generator_adaptation.generator=/nowhere"], "/nowhere"),
        (["--pipelines=knowledge_recyclin"], "knowledge_recycling"),
        (["--namespaces=student"], "student"),
        (
            ["--load-versions=images:2020-01-01T00.00.00.000Z", "--namespaces=captioning"],
            "There is no run 2020-01-01T00.00.00.000Z",
        ),
        (
            ["--load-versions=nosuch:2020-01-01T00.00.00.000Z"],
            "keys [nosuch] are not found in the catalog. Remedy:",
        ),
        (["--env=nosuch"], "There is no environment nosuch. Remedy: give --env one of base, gpu"),
        (["--runner=ParallelRunner"], "ParallelRunner cannot run this project"),
        (["--params=images="], "The parameter images names no place."),
        (["--params=images=null"], "The parameter images names no place."),
        (["--params=images=2024"], "There are no images at"),
        (["--params=images=/scans, 2024"], "--params cannot read '2024'"),
        (["--params=images='/scans, 2024'"], "There are no images at /scans, 2024."),
        (["--params=ingestion.class_names=[a,b"], "a bracket or quote is not closed"),
        (["--params=ingestion.class_names=[a,a]"], "two classes have the same name"),
        (["--params=captioning.checkpoints=pyproject.toml"], "pyproject.toml is a file"),
        (["--params=classifier.learning_rate=.inf"], "should be a finite number"),
    ],
)
def test_what_the_user_can_put_right_is_one_line(
    arguments: list[str], said: str, inside: Path
) -> None:
    done = in_process(inside, *arguments)

    assert done.exit_code == 1
    line = next(line for line in done.output.splitlines() if line.startswith("Error: "))
    assert said in line
    assert "Remedy:" in line
    assert "Traceback" not in done.output
    assert "train" not in done.output.replace("student_training", "")


def test_a_fresh_process_ends_with_one_line_too(kedro: Any) -> None:
    done = kedro("run", "--env=test", "--params=sead=1")

    assert done.returncode == 1
    assert done.stderr.strip().splitlines() == [
        "Error: Parameter sead does not exist. Remedy: did you mean seed?"
    ]
