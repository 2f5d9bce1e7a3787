"""The sweep: nested sets from one pool, a student and an attack a cardinality, one table, one picture, nested runs."""

import contextlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from kedro.framework.startup import bootstrap_project
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import load_file

from tckr.audit.audit import audit
from tckr.audit.membership import membership_matrix
from tckr.audit.options import AuditOptions, ReleaseThreat
from tckr.cli import named, run
from tckr.hooks.summary import stages_of
from tckr.pipeline_registry import register_pipelines
from tckr.pipelines.cardinality_sweep.nodes import audit_models, tabulate
from tckr.pipelines.cardinality_sweep.options import SweepOptions
from tckr.reporting.curves import curves

N = 4000
AUDIT = AuditOptions(n_shadows=8, release=ReleaseThreat(encoder="clip"))


@cache
def models(audited: bool) -> dict[str, Any]:
    """A teacher that leaks, and two students that leak less the fewer images they read."""
    random = np.random.default_rng(0)
    inside, matrix = np.arange(N) < N // 2, membership_matrix(N, 8, 0.5, 0)

    def model(cardinality: float | None, accuracy: float, leak: float) -> dict[str, Any]:
        facts = {
            "cardinality": cardinality,
            "images": round(N / 2 * (cardinality or 1)),
            "seconds": None if cardinality is None else 1.5,
            "accuracy": accuracy,
            "per_class": [accuracy] * 2,
        }
        figures = audit(
            random.normal(size=N) + leak * inside,
            random.normal(size=matrix.shape) + leak * matrix,
            matrix,
            inside,
            accuracy_percent=accuracy,
            options=AUDIT,
            scope="distillation",
        )
        return facts | ({"audit": figures.model_dump(mode="json")} if audited else {})

    return {
        "teacher": model(None, 90.0, 1.0),
        "0.1x": model(0.1, 70.0, 0.0),
        "20x": model(20.0, 85.0, 0.5),
    }


@pytest.mark.parametrize("wrong", [(), (0, 1), (1, 0.5), (1, 1), (1, 101), (-1,)])
def test_cardinalities_ascend_from_above_0_to_at_most_100(wrong: tuple[float, ...]) -> None:
    with pytest.raises(ValidationError):
        SweepOptions(cardinalities=wrong)


def test_students_are_named_by_cardinality() -> None:
    found = SweepOptions(cardinalities=(0.001, 0.1, 1, 20)).students(60)

    assert found == {"0.001x": (0.001, 1), "0.1x": (0.1, 6), "1x": (1, 60), "20x": (20, 1200)}


def test_the_table_holds_every_figure_in_percent() -> None:
    known = models(audited=True)
    table = tabulate(known)

    assert table["model"].tolist() == ["teacher", "student", "student"]
    assert table["images"].tolist() == [2000, 200, 40000]
    for row, model in zip(table.to_dict("records"), known.values(), strict=True):
        figures = model["audit"]["attacks"][model["audit"]["primary_attack"]]
        assert row["accuracy"] == model["accuracy"]
        assert row["AUC_MIA"] == pytest.approx(100 * figures["auc"]["value"])
        assert row["AUC_MIA_low"] < row["AUC_MIA"] < row["AUC_MIA_high"]
        assert row["AOP"] == pytest.approx(row["accuracy"] / max(row["AUC_MIA"] / 50, 1) ** 2)
        assert row["AOP_low"] <= row["AOP"] <= row["AOP_high"]
        assert row["TPR_at_1pct_FPR"] == pytest.approx(100 * figures["tprs"][0]["value"])
        assert row["TPR_at_1pct_FPR_low"] < row["TPR_at_1pct_FPR_high"]


def test_without_an_audit_there_is_accuracy_alone() -> None:
    known, nothing = models(audited=False), pd.DataFrame()

    assert audit_models(nothing, known, {}, {}, nothing, {"n_shadows": 8}, {}, AUDIT) == known
    columns = ["model", "cardinality", "images", "accuracy", "seconds"]
    assert tabulate(known).columns.tolist() == columns


@pytest.mark.parametrize(("audited", "panels"), [(True, 3), (False, 1)])
def test_the_picture_shows_every_student_and_the_teacher(audited: bool, panels: int) -> None:
    table = tabulate(models(audited))
    figure = curves(table, 0.9)

    assert len(figure.axes) == panels
    for name, axes in zip(("accuracy", "AUC_MIA", "AOP"), figure.axes, strict=False):
        lines = {line.get_label(): line for line in axes.lines}
        assert axes.get_xscale() == "log"
        assert [text.get_text() for text in axes.get_xticklabels()] == ["0.1", "20"]
        assert lines["student"].get_ydata().tolist() == table[name].tolist()[1:]
        assert set(lines["teacher"].get_ydata()) == {table[name][0]}
    said = {text.get_text() for text in figure.legends[0].get_texts()}
    assert ("90 % interval" in said) == audited


def test_a_namespace_finds_its_pipeline() -> None:
    assert named([]) == ["knowledge_recycling"]
    assert named(["student_training"]) == ["knowledge_recycling"]
    assert named(["cardinality_sweep"]) == ["cardinality_sweep"]
    assert named(["privacy_audit", "cardinality_sweep"]) == [
        "knowledge_recycling",
        "cardinality_sweep",
    ]


def test_the_plan_lists_stages_and_arms() -> None:
    pipelines = register_pipelines()

    assert set(stages_of(pipelines["cardinality_sweep"])[-2:]) >= {"cardinality_sweep"}
    assert "unadapted.student_training" in stages_of(pipelines["unadapted"])
    assert {"knowledge_recycling", "student_training", "privacy_audit"} <= set(
        stages_of(pipelines["__default__"])
    )


def latest(project: Path, entry: str) -> Path:
    """Newest version of what lies at `entry` below the data folder."""
    version = max((project / "data/test" / entry).iterdir(), key=lambda path: path.name)
    return version / Path(entry).name


@pytest.fixture(scope="module")
def swept(project: Path) -> Result:
    """One whole sweep from raw images."""
    arguments = ["--env=test", "--pipeline=cardinality_sweep"]
    with contextlib.chdir(project):
        done = CliRunner(env={"COLUMNS": "200"}).invoke(
            run, arguments, obj=bootstrap_project(project)
        )
    assert done.exit_code == 0, done.output
    return done


@pytest.mark.slow
def test_a_sweep_from_raw_images_to_nested_runs(inside: Path, swept: Result) -> None:
    table = pd.read_csv(latest(inside, "08_reporting/cardinality_sweep/sweep.csv"))
    details = json.loads(
        latest(inside, "08_reporting/cardinality_sweep/sweep_audit.json").read_text()
    )
    pool = load_file(
        latest(inside, "07_model_output/cardinality_sweep/synthetic_sets") / "tensors.safetensors"
    )

    assert list(details) == ["teacher", "0.1x", "1x", "2x", "control"]
    assert details["teacher"]["audit"]["scope"] == "classifier"
    assert details["2x"]["audit"]["scope"] == "distillation"
    assert table["images"].tolist() == [60, 6, 60, 120, 60]
    attacks = pd.read_csv(latest(inside, "08_reporting/cardinality_sweep/sweep_attacks.csv"))
    assert set(attacks["model"]) == set(details)
    assert attacks.groupby("model")["primary"].sum().tolist() == [1] * 5
    assert {"AUC_MIA_low", "TPR_at_0.1pct_FPR"} <= set(attacks)
    # The control learns from hard labels alone: every shadow of it is one draw, whoever is a member.
    assert table["AUC_MIA"].isna().tolist() == [False] * 4 + [True]
    assert table["AUC_MIA"][:4].between(0, 100).all()
    assert details["control"]["audit"]["shows"] == "nothing"
    assert pool["released.images"].shape == (120, 1, 16, 16)
    for size in (6, 60, 120):
        assert pool["released.labels"][:size].bincount().tolist() == [size // 3] * 3
    with Image.open(latest(inside, "08_reporting/cardinality_sweep/sweep_curves.png")) as picture:
        assert picture.width > 2 * picture.height
    for words in (
        "knowledge_recycling   train teacher, choose generator, fit mixture",
        "recycled, 0.1 x",
        "recycled, 2 x",
        "nothing private (control)",
        "sweep.csv",
    ):
        assert words in swept.output, words
    tracked(latest(inside, "08_reporting/cardinality_sweep/sweep.csv").parent.name, table)


def tracked(version: str, table: pd.DataFrame) -> None:
    """MLflow has one run with the teacher's figures, and below it one a cardinality."""
    mlflow.set_tracking_uri("sqlite:///mlflow.db")
    client = mlflow.MlflowClient()
    names = ["tckr"]
    (parent,) = mlflow.search_runs(
        experiment_names=names, filter_string=f"tags.version = '{version}'", output_format="list"
    )
    children = mlflow.search_runs(
        experiment_names=names,
        filter_string=f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'",
        output_format="list",
    )
    files = {file.path for file in client.list_artifacts(parent.info.run_id)}
    found = sorted(
        (float(run.data.params["cardinality"]), run.data.metrics["AUC_MIA"])
        for run in children
        if "AUC_MIA" in run.data.metrics
    )
    assert len(children) == len(found) + 1  # the control, whose leak this scope cannot see

    assert {"sweep.csv", "sweep_curves.png", "sweep_audit.json"} <= files
    assert parent.data.params["cardinality_sweep.cardinalities"] == "(0.1, 1.0, 2.0)"
    assert parent.data.metrics["teacher.AUC_MIA"] == pytest.approx(table["AUC_MIA"][0])
    assert [cardinality for cardinality, _ in found] == [0.1, 1.0, 2.0]
    expected = sorted(zip(table["cardinality"][1:4], table["AUC_MIA"][1:4], strict=True))
    assert found == [pytest.approx(pair) for pair in expected]


@pytest.mark.slow
def test_the_stage_reruns_alone_and_says_the_same(inside: Path, swept: Result) -> None:
    first = pd.read_csv(latest(inside, "08_reporting/cardinality_sweep/sweep.csv"))

    arguments = ["--env=test", "--namespaces=cardinality_sweep"]
    quick = "--params=cardinality_sweep.audit=false"
    done = CliRunner().invoke(run, [*arguments, quick], obj=bootstrap_project(inside))

    assert done.exit_code == 0, done.output
    second = pd.read_csv(latest(inside, "08_reporting/cardinality_sweep/sweep.csv"))
    assert "seconds" in second
    assert "AUC_MIA" not in second
    assert second["accuracy"].tolist() == first["accuracy"].tolist()
