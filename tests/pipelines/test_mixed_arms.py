"""Runs that draw from the generators of several arms: audited as they were made, and made again when another arm changes."""

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner
from kedro.framework.startup import bootstrap_project

from tckr.cli import run

ROOT = Path(__file__).parents[2]
MIX = "knowledge_recycling.mixture=[{arm: unadapted, weight: 1.0}]"
SIZES = "ingestion.members=30,ingestion.holdout=30,ingestion.validation=9,ingestion.test=15"
# The shipped captioner: a tiny one with random weights says nothing that could be counted.
PRIVATE = f"private.captioning.captioner={ROOT}/data/06_models/foundation/captioner,private.words.pairs=never"
AUDIT = "privacy_audit.n_shadows=4,privacy_audit.attribution=false"

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def inside(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)


def kedro(*arguments: str) -> Any:
    return CliRunner().invoke(run, ["--env=test", *arguments], obj=bootstrap_project(Path.cwd()))


def versions(entry: str) -> list[Path]:
    return sorted(place / Path(entry).name for place in Path("data/test", entry).iterdir())


def sources(arm: str = "") -> dict[str, int]:
    newest = versions(f"07_model_output/{arm}recycled_set")[-1]
    return pd.read_parquet(newest / "data")["source"].value_counts().to_dict()


@pytest.mark.skipif("TCKR_LONG" not in os.environ, reason="takes half a minute: set TCKR_LONG=1")
def test_a_run_with_another_arm_mixed_in_is_audited_and_says_so() -> None:
    done = kedro("--pipeline=tckr", f"--params={SIZES},{AUDIT},{MIX}")
    assert done.exit_code == 0, done.output
    assert sources() == {"own": 15, "unadapted": 15}
    page = versions("08_reporting/report.html")[-1].read_text()
    assert "2 generators take turns: own 50 %; unadapted 50 %." in page
    assert "Images by generator: own 15; unadapted 15." in page
    figures = json.loads(versions("08_reporting/drawing_report.json")[-1].read_text())["figures"]
    assert figures == {"source.own": 15, "source.unadapted": 15}


def test_another_arms_parameters_are_part_of_what_made_the_set() -> None:
    drawing = ("--pipeline=tckr", "--to-outputs=recycled_set")
    first = kedro(*drawing, f"--params={SIZES},{MIX}")
    assert first.exit_code == 0, first.output
    made = versions("07_model_output/synthetic_images")[-1]

    # Nothing has changed, or only what the set as a whole decides.
    resume = f"resume={made.parent.name}"
    again = kedro(*drawing, f"--params={SIZES},{MIX},{resume}")
    assert "nothing that it was made from has changed" in again.output
    shared = kedro(
        *drawing, f"--params={SIZES},{MIX},{resume},unadapted.knowledge_recycling.cardinality=2"
    )
    assert shared.exit_code == 1
    assert "would change nothing" in shared.output

    slower = "unadapted.knowledge_recycling.sampling.steps=3"
    changed = kedro(*drawing, f"--params={SIZES},{MIX},{resume},{slower}")
    assert changed.exit_code == 0, changed.output
    remade = versions("07_model_output/synthetic_images")[-1]
    assert remade != made
    before, after = (pd.read_parquet(place / "data") for place in (made, remade))
    theirs = before["source"] == "unadapted"
    same = before["image_id"] == after["image_id"]
    assert same[~theirs].all()
    assert not same[theirs].any()

    # A stage alone has the mixture of the run that it starts from, but for what is given now.
    slower = "unadapted.knowledge_recycling.sampling.steps=4"
    alone = kedro(
        "--namespaces=knowledge_recycling", f"--params=parent={made.parent.name},{slower}"
    )
    assert alone.exit_code == 0, alone.output
    newest = pd.read_parquet(versions("07_model_output/synthetic_images")[-1] / "data")
    assert (newest["image_id"] == before["image_id"])[~theirs].all()
    assert not newest["image_id"].isin({*before["image_id"], *after["image_id"]})[theirs].any()


@pytest.mark.skipif("TCKR_LONG" not in os.environ, reason="takes half a minute: set TCKR_LONG=1")
def test_an_arm_under_differential_privacy_mixes_in_the_control() -> None:
    mixed = f"{PRIVATE},private.{MIX}"
    done = kedro("--pipeline=private", "--to-outputs=private.recycled_set", f"--params={mixed}")
    assert done.exit_code == 0, done.output
    assert sources("private/") == {"own": 30, "unadapted": 30}
    assert "generator of unadapted" in versions("03_primary/private/budget.json")[-1].read_text()


def test_an_arm_under_differential_privacy_mixes_in_nothing_that_is_fitted() -> None:
    for other in ("{arm: kr}", "{arm: privimage}", "{seed: 1}"):
        refused = kedro(
            "--pipeline=private", f"--params=private.knowledge_recycling.mixture=[{other}]"
        )
        assert refused.exit_code == 1
        assert "knowledge_recycling.mixture[0]" in refused.output
        assert "no mechanism of this arm's ledger pays" in refused.output
        assert "state_public_facts" not in refused.output  # before anything ran
