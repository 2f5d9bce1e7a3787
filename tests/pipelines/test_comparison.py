"""The comparison: the arms that were chosen, in turn, in one table, with a nested run each; resumed where it failed."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from click.testing import CliRunner
from kedro.framework.project import pipelines as registered
from kedro.framework.startup import bootstrap_project
from kedro.pipeline import Pipeline
from PIL import Image
from pydantic import ValidationError

from compared import OPTIONS, result, spent
from tckr.cli import run
from tckr.hooks.turns import in_turn
from tckr.lineage import Manifest, Runs, seconds_behind
from tckr.pipeline_registry import COMPARISON, register_pipelines, wired
from tckr.pipelines.arm import arm_stages
from tckr.pipelines.comparison.nodes import draw_picture, tabulate_arms
from tckr.pipelines.comparison.options import ComparisonOptions
from tckr.pipelines.comparison.pipeline import create_pipeline, entry_of
from tckr.synthesizers.registry import DEFAULT, SYNTHESIZERS, synthesizer_class

ARMS = list(SYNTHESIZERS)
AUDIT = "privacy_audit.scope=distillation,privacy_audit.attribution=false,privacy_audit.n_shadows=4"
# The tiny captioner says few words, and none that can be counted.
WORDLESS = "private.captioning.max_new_tokens=4,private.privacy.words=0"
QUICK = ",".join([AUDIT, *([WORDLESS] if "private" in ARMS else [])])
FAILING = ARMS[1]


@pytest.fixture(scope="module")
def pipelines() -> dict[str, Pipeline]:
    return register_pipelines()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [(["gan"], "there is no arm 'gan'"), ([DEFAULT, DEFAULT], "named twice"), ([], "at least 1")],
)
def test_arms_are_registered_each_one_once(wrong: list[str], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ComparisonOptions(arms=wrong)


def test_all_arms_are_compared_in_the_order_of_the_registry_unless_some_are_chosen() -> None:
    assert ComparisonOptions().chosen == tuple(ARMS)
    assert ComparisonOptions(arms=[ARMS[1], ARMS[0]]).chosen == tuple(ARMS[:2])


def test_what_is_shared_is_made_once_and_each_arm_is_one_box(
    pipelines: dict[str, Pipeline],
) -> None:
    names = [node.name for node in pipelines[COMPARISON].nodes]
    boxes = {name.partition(".")[0] for name in names}

    assert names.count("ingestion.ingest") == names.count("knowledge_recycling.train_teacher") == 1
    assert boxes == {"ingestion", "knowledge_recycling", COMPARISON, *ARMS}
    own = {name for name in names if name.startswith(f"{DEFAULT}.")}
    stages = [node.name for made in arm_stages(DEFAULT).values() for node in made.nodes]
    assert own == {f"{DEFAULT}.{name}" for name in stages}
    for arm in (
        ARMS
    ):  # whatever an arm makes by itself but its release, it makes here, under the same names
        made = pipelines[arm].all_outputs() - {entry_of(arm, "release")}
        assert made <= pipelines[COMPARISON].all_outputs()
    assert {i for i in pipelines[COMPARISON].inputs() if not i.startswith("params:")} == {
        "raw_images",
        "parameters",
        "lineage",
        "durations",
    }


def test_the_arms_that_a_parameter_names_are_the_ones_that_run(
    pipelines: dict[str, Pipeline],
) -> None:
    found = wired({COMPARISON: {"arms": [ARMS[1]]}}, pipelines)[COMPARISON]
    everything = wired({COMPARISON: {"arms": None}}, pipelines)[COMPARISON]

    boxes = {node.name.partition(".")[0] for node in found.nodes}
    assert boxes & set(ARMS) == {ARMS[1]}
    assert "ingestion" in boxes
    assert {node.name for node in everything.nodes} == {
        node.name for node in pipelines[COMPARISON].nodes
    }


def test_every_arm_hands_its_audit_to_the_table() -> None:
    inputs = create_pipeline(ARMS).inputs()

    assert {entry_of(arm, "audit") for arm in ARMS} | {"durations"} <= inputs


def test_the_node_gives_each_arm_its_audit_and_minutes() -> None:
    arms = {
        "tckr": result("tckr", 85.0),
        "unadapted": result("unadapted", 40.0, ledger=spent(1.0)),
    }
    audits = {f"audit_of_{arm}": one.audit.model_dump(mode="json") for arm, one in arms.items()}
    durations = {"audit": 600.0, "unadapted.audit": 90.0, "teacher": 60.0}
    tabulate = tabulate_arms({arm: entry_of(arm, "audit") for arm in arms})

    table, remarks = tabulate(durations, ComparisonOptions(arms=list(arms)), **audits)

    assert table["arm"].tolist() == ["teacher", "tckr", "unadapted"]
    assert table["accuracy"].tolist() == [90.0, 85.0, 40.0]
    assert table["minutes"].tolist() == [1.0, 10.0, 1.5]
    assert table["mu"][2] == pytest.approx(1.0)
    assert any(line.startswith("unadapted: no attack whatever") for line in remarks)
    assert isinstance(draw_picture(table, OPTIONS), Image.Image)


@pytest.fixture(autouse=True)
def whole_registry() -> Iterator[None]:
    """Let tests that come later in this process find every pipeline: a run asks for its own alone."""
    yield
    registered.set_requested(None)


def kedro(*more: str) -> Any:
    arguments = ["--env=test", f"--pipeline={COMPARISON}", *more]
    return CliRunner().invoke(run, arguments, obj=bootstrap_project(Path.cwd()))


def test_an_unknown_arm_is_one_line(inside: Path) -> None:
    done = kedro("--params=comparison.arms=[gan]")

    (line,) = [one for one in done.output.splitlines() if one.startswith("Error: ")]
    assert done.exit_code == 1
    assert "there is no arm 'gan'; registered are tckr" in line
    assert "Traceback" not in done.output


@pytest.mark.slow
def test_a_failed_comparison_goes_on_with_the_arm_that_failed(
    inside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, quick = Runs(inside / "data/test/runs"), f"--params={QUICK}"

    def fail(*given: Any, **more: Any) -> Any:
        raise RuntimeError("the second arm fails")

    with monkeypatch.context() as patch:
        patch.setattr(synthesizer_class(FAILING), "plan_prompts", fail)
        failed = kedro(quick)
    assert isinstance(failed.exception, RuntimeError), failed.output
    first = runs.newest_first()[0]
    assert first.status == "failed"
    made = set(first.artefacts)
    begun = [arm for arm in ARMS if entry_of(arm, "audit") in made]
    assert begun == [DEFAULT]
    assert "report" in made  # all of the first arm, to its last picture
    assert not any(entry.startswith(tuple(f"{arm}." for arm in ARMS[2:])) for entry in made)
    left = inside / "data/test/02_intermediate/audit"
    assert not [*left.glob("*")]  # nor the teachers of shadows, which a later arm might have shared

    done = kedro(f"{quick},resume=last")
    assert done.exit_code == 0, done.output
    last = runs.newest_first()[0]
    assert last.resumes == first.run
    made_in = {entry: one.run for entry, one in last.artefacts.items()}
    for entry in ("images", "teacher", "student", "audit", "metrics"):
        assert made_in[entry] == first.run, entry
    for arm in ARMS[1:]:
        assert made_in[entry_of(arm, "audit")] == last.run
    assert not [*left.glob("*")]
    table = pd.read_csv(inside / last.artefacts["comparison.table"].path)
    check_table(table, first, last)
    check_summary(done.output)
    check_tracked(last.run, table)

    alone = kedro(f"--namespaces={COMPARISON}", f"--params=comparison.arms=[{DEFAULT}]")
    assert alone.exit_code == 0, alone.output
    newest = runs.newest_first()[0]
    again = pd.read_csv(inside / newest.artefacts["comparison.table"].path)
    assert newest.parent == last.run
    assert again["arm"].tolist() == ["teacher", DEFAULT]
    pd.testing.assert_frame_equal(again, table[:2])


def check_table(table: pd.DataFrame, first: Manifest, last: Manifest) -> None:
    """A row an arm; what was done before the failure counts with the time that it took then."""
    rows = table.set_index("arm")
    assert rows.index.tolist() == ["teacher", *ARMS]
    for arm in ARMS:
        row = rows.loc[arm]
        seconds = seconds_behind(last, [first])[entry_of(arm, "audit")]
        assert row["minutes"] == pytest.approx(seconds / 60)
        # Hard labels on images that the shadows share: the audit cannot show a leak of the control, and says so.
        assert pd.isna(row["AUC_MIA"]) == (arm == "unadapted")
        if arm != "unadapted":
            assert row["AUC_MIA_low"] <= row["AUC_MIA"] <= row["AUC_MIA_high"]
        bound = row["AUC_MIA_bound"] / 100
        assert row["aop_certified"] == pytest.approx(row["accuracy"] / (2 * bound) ** 2)
        assert (row["epsilon"] == float("inf")) == (not synthesizer_class(arm).ledger())
    assert rows.loc[DEFAULT, "minutes"] == pytest.approx(seconds_behind(first)["audit"] / 60)
    assert rows.loc[DEFAULT, "minutes"] > rows.loc["teacher", "minutes"] > 0


def check_summary(output: str) -> None:
    """One table in the terminal stands for one an arm."""
    assert "What the arms can do, what they give away, and what is proven" in output
    assert not re.search(r"trained on\s+accuracy %", output)
    assert "Minutes: all work behind an arm's audit" in output
    for words in ("infinity", "certified", *ARMS, "comparison.csv", "comparison.html"):
        assert words in output, words


def check_tracked(version: str, table: pd.DataFrame) -> None:
    """MLflow has one run with the teacher's figures, and below it one an arm with its name for a tag."""
    mlflow.set_tracking_uri("sqlite:///mlflow.db")
    client = mlflow.MlflowClient()
    (experiment,) = client.search_experiments(filter_string="name = 'tckr'")

    def found(words: str) -> list[Any]:
        return list(client.search_runs([experiment.experiment_id], words))

    (parent,) = found(f"tags.version = '{version}'")
    nested = {
        one.data.tags["arm"]: one.data
        for one in found(f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    }
    rows = table.set_index("arm")
    assert set(nested) == set(ARMS)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["teacher.accuracy"] == pytest.approx(rows.loc["teacher", "accuracy"])
    for arm, data in nested.items():
        for name in ("accuracy", "AUC_MIA", "AOP", "AUC_MIA_bound", "aop_certified", "minutes"):
            if pd.isna(rows.loc[arm, name]):
                assert name not in data.metrics, (arm, name)
            else:
                assert data.metrics[name] == pytest.approx(rows.loc[arm, name]), (arm, name)
        if synthesizer_class(arm).ledger():
            assert {"epsilon", "delta", "mu"} <= set(data.metrics)
        else:
            assert data.tags["epsilon"] == "infinity"
        assert f"{arm}.accuracy" in parent.data.metrics
    files = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert {"comparison.csv", "comparison.png", "comparison.html", *ARMS} <= files
    (own,) = found(f"tags.arm = '{DEFAULT}' and tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert own.info.run_name == DEFAULT


def test_the_order_of_a_run_is_one_arm_after_the_other(pipelines: dict[str, Pipeline]) -> None:
    names = [node.name for node in in_turn(pipelines[COMPARISON])]
    places = {
        arm: [i for i, name in enumerate(names) if name.startswith(f"{arm}.")] for arm in ARMS
    }

    for before, after in pairwise(ARMS):
        assert max(places[before]) < min(places[after])
