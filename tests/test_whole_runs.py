"""A run is one whole, as its user meets it: going back, other images, other settings, two runs at once."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from kedro.framework.startup import bootstrap_project
from PIL import Image

from tckr.cli import run

SMALL = "privacy_audit.scope=distillation,privacy_audit.attribution=false,privacy_audit.n_shadows=4"
# Noise that only memory can classify: a teacher that learns it by heart leaks it.
BY_HEART = "classifier.epochs=40,generator_adaptation.sheet_every=0"
HEART = f"{SMALL},{BY_HEART},privacy_audit.attack=threshold"


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Folders of 240 noise images in three classes, another set for each seed."""

    @cache
    def make(seed: int) -> Path:
        folder = tmp_path_factory.mktemp("noise")
        random = np.random.default_rng(seed)
        for name in ("cat", "dog", "owl"):
            (folder / name).mkdir()
            for i in range(80):
                pixels = random.integers(0, 256, (16, 16), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / name / f"{i}.png")
        return folder

    return make


@pytest.fixture
def data(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work inside the temporary project with an empty data folder."""
    monkeypatch.chdir(project)
    bootstrap_project(project)
    folder = project / "data/test"
    kept = project / "data/kept"
    if folder.exists():
        folder.rename(kept)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
    if kept.exists():
        kept.rename(folder)


def kedro(*arguments: str) -> Any:
    return CliRunner().invoke(run, ["--env=test", *arguments], obj=bootstrap_project(Path.cwd()))


def good(*arguments: str) -> str:
    done = kedro(*arguments)
    assert done.exit_code == 0, done.output
    return done.output


def refused(*arguments: str) -> str:
    done = kedro(*arguments)
    assert done.exit_code == 1, done.output
    (line,) = [line for line in done.output.splitlines() if line.startswith("Error: ")]
    assert "Traceback" not in done.output
    return line


def newest(data: Path, entry: str) -> Path:
    version = max((data / entry).iterdir(), key=lambda path: path.name)
    return version / Path(entry).name


def members_of(data: Path, version: str) -> pd.DataFrame:
    (file,) = (data / f"03_primary/images/{version}/images/data").glob("members-*")
    return pd.read_parquet(file)


def figures(data: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads(newest(data, "08_reporting/metrics.json").read_text())
    return found


@pytest.mark.slow
def test_going_back_is_one_key_and_gives_the_old_figures(
    data: Path, noise: Callable[[int], Path]
) -> None:
    """cases/files/o02 and C1 of the review: an old model, audited after another run in the same folder."""
    small = f"images={noise(0)},{HEART}"
    good(f"--params={small},seed=0")
    old, first = newest(data, "08_reporting/metrics.json").parent.name, figures(data)
    # Which no audit needs to look at.
    good(f"--params=images={noise(0)},{BY_HEART},seed=1", "--to-outputs=student")
    assert newest(data, "06_models/teacher").parent.name != old
    assert first["teacher.AUC_MIA"] > 60

    told = good("--namespaces=privacy_audit", f"--params=parent={old}")
    assert f"starts from run {old}" in told
    assert newest(data, "08_reporting/metrics.json").parent.name != old
    assert figures(data) == first

    readme = f"--load-versions=student:{old},teacher:{old}"  # the way back of earlier versions
    good("--namespaces=privacy_audit", readme, f"--params={small},seed=0")
    assert figures(data) == first

    mixed = refused(
        "--namespaces=privacy_audit",
        f"--load-versions=student:{old},teacher:{newest(data, '06_models/teacher').parent.name}",
    )
    assert "teacher" in mixed or "several runs" in mixed
    assert "parent=" in mixed


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the data folder of `audited` is kept for the next test."""
    return tmp_path_factory.mktemp("kept") / "data"


@pytest.fixture
def audited(data: Path, noise: Callable[[int], Path], kept: Path) -> None:
    """Fill the data folder with a whole run on the noise of seed 0, which is made once."""
    if kept.exists():
        shutil.copytree(kept, data)
    else:
        good(f"--params=images={noise(0)},{SMALL}")
        shutil.copytree(data, kept)


@pytest.mark.slow
def test_models_of_one_private_set_are_not_audited_on_another(
    data: Path, noise: Callable[[int], Path], audited: None
) -> None:
    """cases/files/o03."""
    good("--pipeline=ingestion", f"--params=images={noise(1)}")

    said = refused("--namespaces=student_training,privacy_audit", f"--params={SMALL}")

    manifests = [json.loads(file.read_text()) for file in sorted((data / "runs").glob("*.json"))]
    for manifest in manifests[:2]:
        assert manifest["artefacts"]["images"]["hash"][:12] in said
    assert f"parent={manifests[0]['run']}" in said
    refused("--namespaces=generator_adaptation")  # captions of one set never meet images of another


@pytest.mark.slow
def test_each_of_two_runs_at_once_reads_what_it_made(
    data: Path, kedro_process: Callable[..., Any], noise: Callable[[int], Path]
) -> None:
    """cases/files/o04: the slower one would take the private set of the faster."""
    slow = kedro_process(
        "--pipeline=captioning",
        f"--params=images={noise(0)},ingestion.size=64,ingestion.fit=resize",
    )
    fast = kedro_process("--pipeline=captioning", f"--params=images={noise(1)}")
    for process in (slow, fast):
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
    captions = sorted((data / "04_feature/captions.parquet").iterdir())
    assert len(captions) == 2
    for version in captions:
        members = members_of(data, version.name)
        written = pd.read_parquet(version / "captions.parquet")
        assert written["image_id"].tolist() == members["image_id"].tolist()


@pytest.fixture
def kedro_process(project: Path) -> Callable[..., Any]:
    """Start `kedro run` as a user would, and do not wait for it."""

    def start(*arguments: str) -> Any:
        command = [sys.executable, "-m", "kedro", "run", "--env=test", *arguments]
        return subprocess.Popen(
            command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    return start


@pytest.mark.slow
def test_a_clock_that_was_set_back_changes_nothing(
    data: Path, noise: Callable[[int], Path]
) -> None:
    """e32 of the review: a version with a later time stamp would win for ever."""
    good("--pipeline=ingestion", f"--params=images={noise(0)}")
    made = newest(data, "03_primary/images").parent
    shutil.copytree(made, made.with_name("2099-01-01T00.00.00.000Z"))

    good("--pipeline=captioning", f"--params=images={noise(0)},seed=7")

    captions = newest(data, "04_feature/captions.parquet")
    own = members_of(data, captions.parent.name)
    assert set(pd.read_parquet(captions)["image_id"]) == set(own["image_id"])


@pytest.mark.slow
def test_settings_travel_with_artefacts(
    data: Path, noise: Callable[[int], Path], audited: None
) -> None:
    """H1 of the review: an audit alone repeats, and reports, what its target was made by."""
    small = f"images={noise(0)},{SMALL}"
    changed = "knowledge_recycling.cardinality=2,knowledge_recycling.prompts=class_names"
    good("--namespaces=knowledge_recycling,student_training", f"--params={small},{changed}")

    told = good("--namespaces=privacy_audit", f"--params={SMALL}")

    assert "knowledge_recycling.cardinality = 2.0 (the configuration says 1.0)" in told
    page = newest(data, "08_reporting/report.html").read_text()
    assert (
        "knowledge_recycling.cardinality</td><td>2.0" in page.replace(" ", "").replace("\n", "")
        or "2.0" in page
    )
    manifest = json.loads(max((data / "runs").glob("*.json")).read_text())
    used = manifest["parameters"][manifest["used"]["knowledge_recycling"]]
    assert (used["cardinality"], used["prompts"]) == (2.0, "class_names")

    said = refused("--namespaces=student_training", "--params=classifier.epochs=500")
    assert "classifier.epochs = 500 would change nothing" in said
    assert "captioning.max_new_tokens" in refused(
        "--namespaces=privacy_audit", "--params=captioning.max_new_tokens=9"
    )


@pytest.mark.slow
def test_inputs_that_were_changed_by_hand_are_refused(
    data: Path, noise: Callable[[int], Path]
) -> None:
    good("--pipeline=captioning", f"--params=images={noise(0)}")
    captions = newest(data, "04_feature/captions.parquet")
    table = pd.read_parquet(captions)
    table.assign(prompt="cat: another").to_parquet(captions)

    assert "no longer what run" in refused("--namespaces=generator_adaptation")
    assert "only at whether outputs exist" in refused("--only-missing-outputs")
    assert "ParallelRunner" in refused("--runner=ParallelRunner")


@pytest.mark.slow
def test_another_arm_is_exported_under_its_name(data: Path, noise: Callable[[int], Path]) -> None:
    made = "--to-outputs=unadapted.recycled_set"
    good("--pipeline=unadapted", made, f"--params=images={noise(0)}")

    good("--pipeline=unadapted.export", "--params=format=folder")

    folder = newest(data, "07_model_output/unadapted/export")
    table = pd.read_parquet(newest(data, "07_model_output/unadapted/recycled_set") / "data")
    listed = pd.read_csv(folder / "labels.csv")
    assert listed["class_name"].tolist() == table["class_name"].tolist()
    written = [(folder / name).read_bytes() for name in listed["file_name"]]
    assert written == [image["bytes"] for image in table["image"]]
    assert not (data / "07_model_output/export").exists()
    assert "starts from recycled_set, which no run has made yet" in refused("--pipeline=export")


@pytest.mark.slow
def test_few_images_of_many_classes_are_refused_before_anything_is_trained(
    data: Path, tmp_path: Path
) -> None:
    """L03 of the reports: 20 classes of 6 audited images, of which some shadow would lack one."""
    random = np.random.default_rng(0)
    for k in range(20):
        folder = tmp_path / f"species {k:02d}"
        folder.mkdir()
        for i in range(20):
            pixels = random.integers(0, 80, (28, 28), dtype=np.uint8)
            pixels[k + 2] = 255
            Image.fromarray(pixels).save(folder / f"{i}.png")
    given = f"--params=images={tmp_path},ingestion.validation=20"

    said = refused("--pipeline=knowledge_recycling", given)

    assert re.search(r"would train without class 'species \d\d' \(6 members and holdout", said)
    assert "privacy_audit.n_shadows" in said
    assert not (data / "04_feature").exists()
    assert not (data / "06_models").exists()
    good("--pipeline=ingestion", given)  # the set itself is sound
    members = members_of(data, newest(data, "03_primary/images").parent.name)
    assert members["class_name"].value_counts().tolist() == [3] * 20


@pytest.mark.slow
def test_people_with_several_images_stay_whole_from_folders_to_report(
    data: Path, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    for person in range(60):
        for name in ("cat", "dog"):
            folder = tmp_path / f"patient {person:02d}" / name
            folder.mkdir(parents=True)
            for i in range(2):
                pixels = random.integers(0, 256, (16, 16), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")

    plain = "privacy_audit.attribution=false,privacy_audit.n_shadows=4"
    good(f"--params=images={tmp_path},ingestion.folders=group/class,{plain}")

    files = sorted(newest(data, "03_primary/images").glob("data/*.parquet"))
    images = pd.concat([pd.read_parquet(file).assign(file=file.name) for file in files])
    assert (images.groupby("group")["file"].nunique() == 1).all()
    drawn = pd.read_parquet(newest(data, "07_model_output/membership_matrix.parquet"))
    shadows = [column for column in drawn if column.startswith("shadow_")]
    by_person = drawn.set_index("image_id")[shadows].groupby(images.set_index("image_id")["group"])
    assert (by_person.nunique() == 1).all(axis=None)
    audit = json.loads(newest(data, "08_reporting/audit.json").read_text())
    people = images.loc[images["image_id"].isin(drawn["image_id"]), "group"].nunique()
    for name, thing in audit["things"].items():
        primary = thing["attacks"][thing["primary_attack"]]
        assert primary["auc"]["n_clusters"] is not None, name
        assert primary["epsilon"] is None, name
    assert audit["things"]["student"]["attacks"]["rmia"]["auc"]["n_clusters"] == people
    page = newest(data, "08_reporting/report.html").read_text()
    assert f"The images are of {people} people, some with several" in page
