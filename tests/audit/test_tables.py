"""The audit reads the right rows of the tables, and keeps what a killed run decided."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tckr.audit import shadow_runs, tables
from tckr.audit.attribution import sets, student_configs
from tckr.audit.options import AuditOptions, ReleaseThreat
from tckr.audit.shadow_config import ShadowConfig
from tckr.audit.shadow_models import run_shadows
from tckr.audit.signals import model_scores
from tckr.classifiers.models import build
from tckr.classifiers.options import ClassifierOptions, DistillationOptions
from tckr.diffusion.options import AdaptationOptions
from tckr.engine.once_saved import over
from tckr.images.tensors import to_png
from tckr.options import Schedule
from tckr.synthesizers.tckr import TCKR, TckrRecyclingOptions
from tckr.synthesizers.unadapted import Unadapted, UnadaptedRecyclingOptions
from tckr.text.options import CaptionOptions

CLASSES = ["bag", "boot"]
COUNTS = {"members": 30, "holdout": 24, "validation": 6, "test": 4}
SEED = 3
CLASSIFIER = ClassifierOptions(widths=(8,), batch_size=8)
RECIPE = {
    "classifier": CLASSIFIER.model_dump(mode="json"),
    "distillation": DistillationOptions(labels="stored").model_dump(mode="json"),
    "steps": 3,
    "classes": CLASSES,
    "students": {"student": {"pool": "released", "labels": "stored", "size": None}},
}


def options(**changes) -> AuditOptions:
    return AuditOptions(n_shadows=8, release=ReleaseThreat(encoder="none"), workers=1, **changes)


def pixels(count: int, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 1, 8, 8), generator=draw).to(torch.uint8)


@pytest.fixture(scope="module")
def images() -> pd.DataFrame:
    """Image table with the splits mixed."""
    splits = np.repeat(list(COUNTS), list(COUNTS.values()))
    labels = np.arange(len(splits)) % 2
    table = pd.DataFrame(
        {
            "image_id": [f"image {i}" for i in range(len(splits))],
            "split": splits,
            "label": labels,
            "class_name": np.array(CLASSES)[labels],
            "image": to_png(pixels(len(splits))),
        }
    )
    return table.sample(frac=1, random_state=0).reset_index(drop=True)


@pytest.fixture(scope="module")
def audited(images: pd.DataFrame) -> pd.DataFrame:
    return tables.audited_images(images)


@pytest.fixture
def config(images: pd.DataFrame) -> ShadowConfig:
    stored = {"released.images": pixels(12, 1), "released.labels": torch.arange(12) % 2}
    return shadow_runs.shadow_config(images, stored, RECIPE, options(), SEED)


def tckr() -> TCKR:
    return TCKR(
        captioning=CaptionOptions(captioner="never loaded"),
        generator_adaptation=AdaptationOptions(
            generator="never loaded",
            schedule=Schedule(steps=4, batch_size=8, learning_rate=1e-2),
        ),
        knowledge_recycling=TckrRecyclingOptions(),
    )


def test_audited_are_members_and_holdout_in_their_order(
    images: pd.DataFrame, audited: pd.DataFrame
) -> None:
    wanted = images[images["split"].isin(["members", "holdout"])]
    assert audited["image_id"].tolist() == wanted["image_id"].tolist()
    assert tables.is_member(audited).tolist() == (wanted["split"] == "members").tolist()


def test_memberships_follow_the_images_whatever_their_order(
    images: pd.DataFrame, audited: pd.DataFrame
) -> None:
    drawn = tables.draw_memberships(images, 8, SEED)
    assert drawn["is_member"].tolist() == tables.is_member(audited).tolist()
    matrix = tables.memberships(drawn, audited)
    assert matrix.shape == (8, 54)
    assert matrix.dtype == bool
    assert (matrix.sum(axis=0) == 4).all()  # every image is in half of the shadows
    assert matrix.flags.writeable
    backwards = tables.memberships(drawn, audited[::-1])
    np.testing.assert_array_equal(backwards, matrix[:, ::-1])
    pd.testing.assert_frame_equal(drawn, tables.draw_memberships(images, 8, SEED))
    assert not drawn.equals(tables.draw_memberships(images, 8, SEED + 1))
    with pytest.raises(KeyError):
        tables.memberships(drawn.head(20), audited)


def test_all_images_of_a_person_are_in_the_same_shadows(images: pd.DataFrame, config) -> None:
    people = images.assign(group=[int(name.split()[1]) // 3 for name in images["image_id"]])
    audited = tables.audited_images(people)
    drawn = tables.memberships(tables.draw_memberships(people, 8, SEED), audited)
    assert (drawn.sum(axis=0) == 4).all()
    for _, own in audited.reset_index(drop=True).groupby("group"):
        assert (drawn[:, own.index] == drawn[:, own.index[:1]]).all()
    config.check(drawn)
    alone = images.assign(
        group=np.arange(len(images))
    )  # one image a person: nothing to keep together
    pd.testing.assert_frame_equal(
        tables.draw_memberships(alone, 8, SEED), tables.draw_memberships(images, 8, SEED)
    )


def test_synthetic_sets_from_a_table_are_the_released_one(images: pd.DataFrame) -> None:
    found = tables.synthetic_sets(images.head(6))
    assert list(found) == ["released"]
    assert found["released"].labels.tolist() == images["label"].head(6).tolist()
    index = [int(name.split()[1]) for name in images["image_id"].head(6)]
    assert torch.equal(found["released"].images, pixels(len(images))[index])


def test_synthetic_sets_from_tensors_have_their_names() -> None:
    stored = {
        "released.images": pixels(4, 1),
        "released.labels": torch.zeros(4, dtype=torch.int64),
        "other.images": pixels(6, 2),
        "other.labels": torch.ones(6, dtype=torch.int64),
    }
    found = tables.synthetic_sets(stored)
    assert list(found) == ["released", "other"]
    for name, synthetic in found.items():
        assert synthetic.images is stored[f"{name}.images"]
        assert synthetic.labels is stored[f"{name}.labels"]


def test_arrays_survive_as_tensors() -> None:
    arrays = {"a": np.arange(6.0).reshape(2, 3).T, "b": np.array([True, False])}
    back = tables.as_arrays(tables.as_tensors(arrays))
    assert list(back) == ["a", "b"]
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].dtype == array.dtype


def test_as_many_members_as_holdout_images_are_queried(
    images: pd.DataFrame, audited: pd.DataFrame
) -> None:
    some = options(asked=20)
    queried = tables.queried_images(images, some, SEED)
    assert queried["split"].value_counts().to_dict() == {
        "members": 20,
        "holdout": 20,
        "validation": 6,
    }
    rows = tables.queried_rows(audited, images, some, SEED)
    asked = audited.iloc[rows]
    assert asked["split"].value_counts().to_dict() == {"members": 20, "holdout": 20}
    assert set(asked["image_id"]) < set(queried["image_id"])
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(rows, tables.queried_rows(audited, images, some, SEED))
    assert rows.tolist() != tables.queried_rows(audited, images, some, SEED + 1).tolist()


def test_all_are_queried_by_default_or_if_there_are_fewer(
    images: pd.DataFrame, audited: pd.DataFrame
) -> None:
    everyone = tables.queried_rows(audited, images, options(), SEED)
    np.testing.assert_array_equal(everyone, np.arange(54))
    many = tables.queried_rows(audited, images, options(asked=28), SEED)
    assert audited.iloc[many]["split"].value_counts().to_dict() == {"members": 28, "holdout": 24}


def test_shadows_repeat_the_recipe_of_the_students(
    config: ShadowConfig, images: pd.DataFrame, audited: pd.DataFrame
) -> None:
    assert config.labels.tolist() == audited["label"].tolist()
    assert config.classifier == CLASSIFIER
    assert (config.steps, config.n_classes) == (3, 2)
    assert list(config.students) == ["student"]
    assert set(config.pools) == {"released"}
    stored = {"released.images": pixels(12, 1), "released.labels": torch.arange(12) % 2}
    again = shadow_runs.shadow_config(images, stored, RECIPE, options(), SEED)
    assert again.fingerprint() == config.fingerprint()
    other = shadow_runs.shadow_config(images, stored, RECIPE, options(), SEED + 1)
    assert other.fingerprint() != config.fingerprint()


def test_every_shadow_of_a_pipeline_makes_its_own_sets(
    images: pd.DataFrame, audited: pd.DataFrame
) -> None:
    whole = options(scope="pipeline", attribution=True, asked=20)
    shuffled = audited.sample(frac=1, random_state=1)
    captions = pd.DataFrame(
        {"image_id": shuffled["image_id"], "prompt": "of " + shuffled["image_id"]}
    )
    made = shadow_runs.resynthesize(images, tckr(), {"captions": captions}, 12, whole, SEED)
    known = made.known["captions"]
    assert known["prompt"].tolist() == ("of " + audited["image_id"]).tolist()
    assert made.closed == {"released": (), **sets(TCKR.channels)}
    assert made.threat == whole.generator
    assert made.queried == tables.queried_rows(audited, images, whole, SEED).tolist()
    assert (made.count, list(made.class_names)) == (12, CLASSES)

    repeated = shadow_runs.shadow_config(images, images.head(0), RECIPE, whole, SEED, made)
    assert repeated.pools == {}
    assert repeated.resynthesis is made
    own = student_configs("stored", TCKR.channels)
    assert repeated.students.keys() == {"student", "released", *own}
    assert repeated.students["soft labels"].labels == "stored"
    repeated.check(tables.memberships(tables.draw_memberships(images, 8, SEED), audited))


def test_an_arm_without_an_adapter_has_no_generator_to_query(images: pd.DataFrame) -> None:
    arm = Unadapted(knowledge_recycling=UnadaptedRecyclingOptions(generator="never loaded"))
    made = shadow_runs.resynthesize(images, arm, {}, 12, options(scope="pipeline"), SEED)
    assert made.threat is None
    assert list(made.queried) == []
    assert made.closed == {"released": ()}


def test_a_killed_audit_keeps_its_number_of_shadows(
    monkeypatch: pytest.MonkeyPatch, config: ShadowConfig, tmp_path: Path
) -> None:
    seconds = iter([30.0, 10.0, 10.0])
    monkeypatch.setattr("tckr.audit.budget.seconds_per_group", lambda *_: next(seconds))
    budget = options(time_budget_minutes=2.1, checkpoints=str(tmp_path / "audit"))
    first, again = (shadow_runs.plan_shadows(config, budget) for _ in range(2))
    assert first["n_shadows"] == 4
    assert first["fingerprint"] == config.fingerprint()
    assert again == first
    assert shadow_runs.plan_shadows(replace(config, seed=9), budget)["n_shadows"] == 8
    shadow_runs.forget_checkpoints(budget, first)
    assert shadow_runs.plan_shadows(config, budget)["n_shadows"] == 8


def test_a_damaged_plan_is_made_again(
    monkeypatch: pytest.MonkeyPatch, config: ShadowConfig, tmp_path: Path
) -> None:
    monkeypatch.setattr("tckr.audit.budget.seconds_per_group", lambda *_: 30.0)
    kept = options(checkpoints=str(tmp_path))
    first = shadow_runs.plan_shadows(config, kept)
    (file,) = tmp_path.glob("*/*")
    file.write_text(file.read_text()[:10])
    assert shadow_runs.plan_shadows(config, kept) == first
    assert shadow_runs.plan_shadows(config, options()) == first  # no folder, nothing to keep


def test_an_audit_forgets_its_own_checkpoints_alone(
    monkeypatch: pytest.MonkeyPatch,
    images: pd.DataFrame,
    audited: pd.DataFrame,
    config: ShadowConfig,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("tckr.audit.budget.seconds_per_group", lambda *_: 1.0)
    kept = options(checkpoints=str(tmp_path))
    membership = tables.draw_memberships(images, 2, SEED)
    own, other = config, replace(config, seed=9)
    mine, theirs = (shadow_runs.plan_shadows(e, kept) for e in (own, other))
    for repeated in (own, other):
        shadow_runs.train_shadows(repeated, membership, audited, kept)
    folders = {folder.name: list(folder.iterdir()) for folder in tmp_path.iterdir()}
    marks = [plan[mark] for plan in (mine, theirs) for mark in ("fingerprint", "teachers")]
    assert set(folders) == set(marks)
    assert all(len(files) > 1 for files in folders.values())  # finished groups, plans, teachers

    shadow_runs.forget_checkpoints(options(), mine)
    shadow_runs.forget_checkpoints(kept, {**mine, "fingerprint": None})
    assert len(list(tmp_path.iterdir())) == 4
    shadow_runs.forget_checkpoints(kept, mine)
    # The teachers wait for the audits of other arms, which may have the same.
    assert {folder.name for folder in tmp_path.iterdir()} == set(marks[1:])
    over()
    assert {folder.name for folder in tmp_path.iterdir()} == set(marks[2:])
    assert set(tmp_path.glob("*/*")) == {file for mark in marks[2:] for file in folders[mark]}
    shadow_runs.forget_checkpoints(kept, mine)  # twice does no harm
    over()


def test_scores_are_those_of_the_audited_images(
    images: pd.DataFrame, audited: pd.DataFrame, config: ShadowConfig
) -> None:
    membership = tables.draw_memberships(images, 2, SEED)
    scores = shadow_runs.train_shadows(config, membership, audited, options())
    expected = run_shadows(config, tables.memberships(membership, audited))
    assert set(scores) == {"teacher", "student", "weights"}
    for name, values in scores.items():
        assert values.shape[:2] == (2, 54)
        np.testing.assert_array_equal(values.numpy(), expected[name])

    torch.manual_seed(0)
    model = build(CLASSIFIER, 1, 2, 8)
    (found,) = shadow_runs.score_models(images, {"m": model}, RECIPE, options(queries=2)).values()
    alone = model_scores(model, config.images, config.labels, 2, CLASSIFIER.augmentation)
    np.testing.assert_array_equal(found.numpy(), alone)


def test_every_model_is_attacked_and_the_teacher_is_no_student(
    images: pd.DataFrame, audited: pd.DataFrame
) -> None:
    random = np.random.default_rng(0)
    membership = tables.draw_memberships(images, 8, SEED)
    inside = tables.memberships(membership, audited)
    is_member = tables.is_member(audited)
    shadows = {name: random.normal(size=(8, 54, 1)) for name in ("teacher", "student")}
    targets = {name: random.normal(size=(54, 1)) for name in shadows}
    shadows["teacher"] += 5 * inside[..., None]
    targets["teacher"] += 5 * is_member[:, None]
    found = tables.attack_models(
        {"teacher": 90.0, "student": 80.0},
        audited.assign(canary=np.arange(54) % 2 == 0),
        tables.as_tensors(targets),
        tables.as_tensors(shadows),
        membership,
        random.normal(size=(54, 4)).astype(np.float32),
        options(),
        "distillation",
        {"student": {"pool": "released", "labels": "on_the_fly"}},
    )
    assert list(found) == ["teacher", "student"]
    assert (found["teacher"].scope, found["student"].scope) == ("classifier", "distillation")
    assert (found["teacher"].accuracy, found["student"].accuracy) == (90.0, 80.0)
    assert found["teacher"].primary.auc.low > 0.5
    assert found["student"].primary.covers_half
    assert found["student"].n_members == 30
    assert found["student"].canaries is not None
    assert found["student"].canaries.count == 27


def test_figures_of_people_with_several_images_count_people(images: pd.DataFrame) -> None:
    """Images of one person that score alike are one piece of evidence, however many there are."""
    people = images.assign(group=[int(name.split()[1]) // 3 for name in images["image_id"]])
    audited = tables.audited_images(people).assign(canary=np.arange(54) % 2 == 0)
    random = np.random.default_rng(0)
    of_person = random.normal(size=len(people))[audited["group"]]
    drawn = tables.draw_memberships(people, 8, SEED)
    targets = tables.as_tensors({"student": of_person[:, None]})
    shadows = tables.as_tensors({"student": random.normal(size=(8, 54, 1))})
    features = random.normal(size=(54, 4)).astype(np.float32)

    def attacked(table: pd.DataFrame):
        found = tables.attack_models(
            *({"student": 80.0}, table, targets, shadows, drawn, features),
            options(attack="threshold"),
            "distillation",
            {"student": {"pool": "released", "labels": "on_the_fly"}},
        )
        return found["student"]

    whole, apart = attacked(audited), attacked(audited.drop(columns="group"))
    wide, narrow = whole.primary.auc, apart.primary.auc
    assert wide.value == pytest.approx(narrow.value)
    assert (wide.n_clusters, narrow.n_clusters) == (18, None)
    assert wide.high - wide.low > 1.3 * (narrow.high - narrow.low)
    assert whole.primary.epsilon is None
    assert apart.primary.epsilon is not None
    assert whole.canaries is not None
    assert whole.canaries.one_run is None
    assert whole.canaries.attack.auc.n_clusters == audited.loc[audited["canary"], "group"].nunique()
    assert apart.canaries is not None
    assert apart.canaries.one_run is not None
