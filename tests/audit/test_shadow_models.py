"""A shadow is what the target's own training functions make of the shadow's examples."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from copies import no_copies
from tckr.audit import shadow_config
from tckr.audit import shadow_models as shadows
from tckr.audit.shadow_config import ShadowConfig, StudentConfig
from tckr.audit.shadow_models import run_shadows
from tckr.audit.shadow_trainers import SHADOW_STREAM, ShadowTrainers
from tckr.audit.signals import model_scores
from tckr.classifiers import features
from tckr.classifiers.distillation import train_student, train_teacher
from tckr.classifiers.options import ClassifierOptions, DistillationOptions
from tckr.classifiers.predict import soft_labels
from tckr.classifiers.trainer import Trainer, TrainSpec
from tckr.errors import UserError
from tckr.synthesizers.private_set import SyntheticSet

N, M, CLASSES, STEPS = 40, 50, 3, 6
OPTIONS = ClassifierOptions(widths=(8, 12), depth=2, stride=1, batch_size=16)


def images(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pictures = torch.randint(0, 256, (n, 1, 8, 8), generator=generator)
    return pictures.to(torch.uint8), torch.arange(n) % CLASSES


MEMBERSHIP = np.stack([np.arange(N) // width % 2 == 0 for width in (1, 2, 4, 5)])


def config(labels: str = "on_the_fly", **changes) -> ShadowConfig:
    e = ShadowConfig(
        *images(N, 0),
        n_classes=CLASSES,
        steps=STEPS,
        classifier=OPTIONS,
        distillation=DistillationOptions(labels=labels, patience=1.5),
        seed=4,
        students={
            "small": StudentConfig("released", labels, 10),
            "student": StudentConfig("released", labels),
            "control": StudentConfig("other", "hard"),
        },
        pools={"released": SyntheticSet(*images(M, 1)), "other": SyntheticSet(*images(M, 2))},
    )
    return replace(e, **changes)


@pytest.mark.parametrize("source", ["on_the_fly", "stored", "hard"])
def test_target_and_shadow_are_trained_alike(source):
    e = config(source)
    scores = run_shadows(e, MEMBERSHIP[:2])
    first = None  # students of hard labels are the same in every shadow
    for number, inside in enumerate(MEMBERSHIP[:2]):
        seeds = np.random.SeedSequence([e.seed, SHADOW_STREAM, number]).generate_state(2)
        teacher = train_teacher(
            e.images[inside], e.labels[inside], OPTIONS, int(seeds[0]), CLASSES, steps=STEPS
        )
        found = model_scores(teacher, e.images, e.labels)
        np.testing.assert_array_equal(scores["teacher"][number], found)
        first = first or int(seeds[1])
        for name, plan in e.students.items():
            synthetic, classes = e.pools[plan.pool]
            student = train_student(
                synthetic[: plan.size],
                classes[: plan.size],
                OPTIONS,
                first if plan.labels == "hard" else int(seeds[1]),
                CLASSES,
                distillation=DistillationOptions(labels=plan.labels, patience=1.5),
                steps=STEPS,
                teacher=teacher,
                soft=soft_labels(teacher, synthetic)[: plan.size],
            )
            found = model_scores(student, e.images, e.labels)
            np.testing.assert_array_equal(scores[name][number], found)


def test_target_and_shadow_share_one_recipe():
    """Not equal recipes: the same typed options, read by the same function."""
    trainers = ShadowTrainers(config())
    trainer = trainers.teachers
    student, _ = trainers.student(StudentConfig("released", "on_the_fly"), 0, trainer.network(0))
    assert trainer.options is OPTIONS
    assert student.options is OPTIONS


def test_stacked_shadows_are_those_trained_alone():
    alone, stacked = (run_shadows(config(stack=stack), MEMBERSHIP) for stack in (1, 3))
    for name, scores in alone.items():
        np.testing.assert_array_equal(scores, stacked[name])


def test_heads_of_several_shadows_share_the_features_and_are_those_fitted_alone(monkeypatch):
    counted: list[int] = []
    transform = features.scattering_features
    monkeypatch.setattr(
        features, "scattering_features", lambda x: counted.append(len(x)) or transform(x)
    )
    heads = OPTIONS.model_copy(update={"architecture": "scattering"})
    students = {
        "student": StudentConfig("released", "on_the_fly"),
        "released": StudentConfig("released", "stored", attacker=True),
    }
    e = config(classifier=heads, students=students, queries=1, weights_queries=4, views=2)
    # every second example, and every second pair, as heads have no seeds in which shadows could differ
    membership = np.stack([np.arange(N) // width % 2 == 0 for width in (1, 2, 4, 5)])
    together, read = run_shadows(e, membership), sum(counted)
    counted.clear()
    monkeypatch.setattr(shadow_config, "HEADS", 1)
    alone = run_shadows(e, membership)
    assert read < sum(counted) / 2
    assert together.keys() == alone.keys() == {"teacher", "student", "released", "weights"}
    for name, scores in alone.items():
        np.testing.assert_allclose(together[name], scores, rtol=1e-3, atol=1e-3)
        assert scores.std(0).max() > 0.1  # shadows differ


def test_no_pixels_are_pickled_for_other_processes(tmp_path, monkeypatch):
    monkeypatch.setenv("TCKR_SCRATCH", str(tmp_path))
    large = torch.zeros((1, 1, 8, 8), dtype=torch.uint8).expand(5000, -1, -1, -1)
    pools = {"released": SyntheticSet(large, torch.zeros(5000, dtype=torch.int64))}
    students = {"student": StudentConfig("released", "hard")}
    work = shadows._Work(config(pools=pools, students=students), None)
    sent = pickle.dumps(work)
    assert len(sent) < 5000 * 8 + 5000  # the labels, and not one image
    received = pickle.loads(sent).config
    assert torch.equal(received.images, work.config.images)
    assert torch.equal(received.pools["released"].images, large)
    assert received.fingerprint() == work.config.fingerprint()
    assert list(tmp_path.iterdir()) == []


def test_shadows_hold_no_copy_of_a_set(tmp_path):
    large = torch.randint(0, 256, (2000, 1, 8, 8), dtype=torch.uint8)
    pools = {"released": SyntheticSet(large, torch.arange(2000) % CLASSES)}
    students = {name: StudentConfig("released", name) for name in ("hard", "on_the_fly", "stored")}
    e = replace(
        config(pools=pools, students=students, steps=2, queries=3),
        images=large,
        labels=torch.arange(2000) % CLASSES,
        classifier=OPTIONS.model_copy(update={"widths": (4,)}),
    )
    with no_copies(large, share=0.9):  # 256 images are scored at a time, in four channels
        run_shadows(e, np.arange(4000).reshape(2, 2000) % 2 < 1, folder=tmp_path)


def test_students_of_one_pool_share_its_images():
    pool = SyntheticSet(*images(M, 1))
    mixed = {name: StudentConfig("released", name) for name in ("hard", "on_the_fly", "stored")}
    trainers = ShadowTrainers(config(pools={"released": pool}, students=mixed))
    others = SyntheticSet(*images(M, 5))
    for given in (pool, others):
        trainers.set_pool("released", given)
        for plan in mixed.values():
            trainer, _ = trainers.student(plan, 0, trainers.teachers.network(0))
            assert trainer.images.data_ptr() == given.images.data_ptr()


def test_several_queries():
    once, twice = (run_shadows(config(queries=q), MEMBERSHIP[:1]) for q in (1, 3))
    assert twice["student"].shape == (1, N, 3)
    np.testing.assert_array_equal(once["student"][..., 0], twice["student"][..., 0])
    assert not np.array_equal(twice["student"][..., 1], twice["student"][..., 0])


def test_a_killed_audit_goes_on(tmp_path, monkeypatch, caplog):
    e, trained = config(), []
    original = shadows.shadow_groups

    def counted(rows, trainers, kept):
        trained.extend(row.number for row in rows)
        if len(trained) == 3:
            raise KeyboardInterrupt
        return original(rows, trainers, kept)

    monkeypatch.setattr(shadows, "shadow_groups", counted)
    with pytest.raises(KeyboardInterrupt):
        run_shadows(e, MEMBERSHIP, folder=tmp_path)
    finished = run_shadows(e, MEMBERSHIP, folder=tmp_path)
    assert trained == [0, 1, 2, 2, 3]
    with caplog.at_level("INFO", "tckr"):
        again = run_shadows(e, MEMBERSHIP, folder=tmp_path)
    assert "shadow groups are there already" in caplog.text
    whole = run_shadows(e, MEMBERSHIP)
    for name, scores in whole.items():
        np.testing.assert_array_equal(finished[name], scores)
        np.testing.assert_array_equal(again[name], scores)


@pytest.mark.parametrize("stack", [1, 3])
def test_the_audits_of_several_arms_share_the_teachers_of_their_shadows(
    tmp_path, monkeypatch, stack
):
    first, trained = config(stack=stack), []
    other = config(stack=stack, pools={**first.pools, "released": SyntheticSet(*images(30, 8))})
    original = shadows.Trainer.fit

    def counted(trainer, specs, description="", side_by_side=1):
        if description == "shadow teachers":
            trained.append(len(specs))
        return original(trainer, specs, description, side_by_side)

    monkeypatch.setattr(shadows.Trainer, "fit", counted)
    run_shadows(first, MEMBERSHIP[:2], folder=tmp_path)
    assert sum(trained) == 2
    shared = run_shadows(other, MEMBERSHIP, folder=tmp_path)
    assert sum(trained) == len(MEMBERSHIP)  # but for those of the first audit
    alone = run_shadows(other, MEMBERSHIP)
    for name, scores in alone.items():
        np.testing.assert_array_equal(shared[name], scores)


@pytest.mark.parametrize(
    "change", [{"steps": 7}, {"seed": 5}, {"images": images(N, 9)[0]}, {"members": 3}]
)
def test_teachers_of_another_recipe_are_not_shared(change):
    assert config(**change).teachers_fingerprint() != config().teachers_fingerprint()


def test_another_recipe_does_not_find_these_groups(tmp_path):
    run_shadows(config(), MEMBERSHIP[:1], folder=tmp_path)
    for change in ({"steps": 7}, {"seed": 5}, {"images": images(N, 9)[0]}, {"queries": 2}):
        assert config(**change).fingerprint() != config().fingerprint(), change
    longer = run_shadows(config(steps=7), MEMBERSHIP[:1], folder=tmp_path)
    expected = run_shadows(config(steps=7), MEMBERSHIP[:1])
    np.testing.assert_array_equal(longer["teacher"], expected["teacher"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("stack", [1, 3])
def test_on_a_gpu_a_shadow_is_the_same_after_another_as_alone(monkeypatch, stack):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    e = config(device="cuda", stack=stack)
    both, again = (run_shadows(e, MEMBERSHIP) for _ in range(2))
    first = run_shadows(e, MEMBERSHIP[:1])
    for name, scores in both.items():
        np.testing.assert_array_equal(scores, again[name])
        np.testing.assert_array_equal(scores[0], first[name][0])


@pytest.mark.parametrize("size", [0, M + 1])
def test_refuses_a_size_that_is_not_there(size: int):
    students = {"student": StudentConfig("released", "hard", size)}
    with pytest.raises(UserError, match=f"{size} of {M}"):
        run_shadows(config(students=students), MEMBERSHIP)


def test_refuses_a_student_of_nothing():
    with pytest.raises(UserError, match="reads nowhere, which nobody makes"):
        run_shadows(config(students={"student": StudentConfig("nowhere", "hard")}), MEMBERSHIP)


@pytest.fixture
def trained(monkeypatch) -> list[TrainSpec]:
    """Every network that a trainer was given, in order."""
    specs: list[TrainSpec] = []
    original = Trainer.fit
    monkeypatch.setattr(
        Trainer,
        "fit",
        lambda self, those, *more, **options: (
            specs.extend(those) or original(self, those, *more, **options)
        ),
    )
    return specs


def test_a_student_of_two_names_is_trained_once(trained):
    plan = StudentConfig("released", "on_the_fly")
    scores = run_shadows(config(students={"student": plan, "twin": plan}), MEMBERSHIP[:1])
    assert len(trained) == 2  # the teacher and one student
    np.testing.assert_array_equal(scores["student"], scores["twin"])


def test_a_student_that_no_shadow_teaches_is_trained_once(trained):
    students = {"student": StudentConfig("released", "hard")}
    scores = run_shadows(config(students=students), MEMBERSHIP)
    assert len(trained) == len(MEMBERSHIP) + 1  # the teachers and one student
    assert scores["teacher"].std(0).max() > 0.1
    np.testing.assert_array_equal(scores["student"].std(0), 0)
