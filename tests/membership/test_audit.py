"""Real shadows on tiny data: a leaking target is found out, an innocent one is not."""

import json

import numpy as np
import pytest
import torch

from tckr.classifiers.options import AugmentationOptions, ClassifierOptions, DistillationOptions
from tckr.classifiers.recipe import train_student, train_teacher
from tckr.errors import UserError
from tckr.membership.audit import AuditOptions, audit
from tckr.membership.design import fingerprint, membership_matrix
from tckr.membership.shadows import Experiment, ShadowScores, model_scores, run_shadows

N, MEMBERS, CLASSES = 200, 100, 3
# Rare enough an error that an unlucky draw does not fail the test.
OPTIONS = AuditOptions(n_shadows=8, workers=1, fpr=0.1, confidence=0.999)


def images(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise with a faint bar for the class: hard to learn, easy to memorise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES, (n,), generator=generator)
    pictures = torch.randint(0, 200, (n, 1, 12, 12), generator=generator)
    for picture, label in zip(pictures, labels, strict=True):
        picture[:, 4 * int(label)] += 40
    return pictures.to(torch.uint8), labels


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    options = ClassifierOptions(
        widths=(24,),
        epochs=10,
        batch_size=25,
        augmentation=AugmentationOptions(shift=0, flip=False, contrast=0, offset=0),
    )
    return Experiment(
        *images(N, 0),
        *images(N, 1),
        n_classes=CLASSES,
        steps=options.steps(MEMBERS),
        classifier=options,
        distillation=DistillationOptions(),
        seed=0,
    )


@pytest.fixture(scope="module")
def membership() -> np.ndarray:
    return membership_matrix(N, OPTIONS.n_shadows, 0.5, 0)


@pytest.fixture(scope="module")
def scores(experiment: Experiment, membership: np.ndarray) -> ShadowScores:
    return run_shadows(experiment, membership)


def teacher_of(e: Experiment, pictures: torch.Tensor, labels: torch.Tensor):
    return train_teacher(pictures, labels, e.classifier, 77, CLASSES, steps=e.steps)


IS_MEMBER = np.arange(N) < MEMBERS


def test_overfitted_target_leaks_and_another_does_not(experiment, membership, scores):
    e = experiment
    leaking = teacher_of(e, e.images[:MEMBERS], e.labels[:MEMBERS])
    innocent = teacher_of(e, *images(MEMBERS, 2))
    found, nothing = (
        audit(
            model_scores(model, e.images, e.labels),
            scores.teacher,
            membership,
            IS_MEMBER,
            accuracy_percent=60.0,
            options=OPTIONS,
            scope="classifier",
        )
        for model in (leaking, innocent)
    )
    assert found["auc"]["low"] > 0.6
    assert found["tpr"]["value"] > 0.2
    assert found["aop"]["value"] < 60
    assert nothing["auc"]["low"] < 0.5 < nothing["auc"]["high"]


def test_report_says_what_was_done(experiment, membership, scores):
    e = experiment
    teacher = teacher_of(e, e.images[:MEMBERS], e.labels[:MEMBERS])
    student = train_student(
        e.synthetic,
        e.synthetic_labels,
        e.classifier,
        78,
        CLASSES,
        distillation=e.distillation,
        steps=e.steps,
        teacher=teacher,
    )
    report = audit(
        model_scores(student, e.images, e.labels),
        scores.students[0],
        membership,
        IS_MEMBER,
        accuracy_percent=55.0,
        options=OPTIONS,
        scope="distillation",
    )
    json.dumps(report, allow_nan=False)
    assert report["attack_of_record"] == "lira_online"
    assert list(report["attacks"]) == ["lira_online", "threshold"]
    assert report["auc"] == report["attacks"]["lira_online"]["auc"]
    assert report["membership_hash"] == fingerprint(membership)
    assert "held fixed" in report["scope_note"]
    assert (report["n_members"], report["n_non_members"]) == (MEMBERS, N - MEMBERS)


def test_shadows_know_their_own_members_best(membership, scores):
    gap = scores.teacher[membership].mean() - scores.teacher[~membership].mean()
    taught = scores.students[0][membership].mean() - scores.students[0][~membership].mean()
    assert gap > 1
    assert taught < gap


def test_shadows_are_seeded_and_the_same_in_other_processes(experiment, membership, scores):
    again = run_shadows(experiment, membership[:2], workers=2)
    np.testing.assert_allclose(again.teacher, scores.teacher[:2], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(again.students[0], scores.students[0][:2], rtol=1e-3, atol=1e-3)


def test_refuses_a_matrix_of_other_data(experiment, membership):
    with pytest.raises(UserError, match="not of these 200"):
        run_shadows(experiment, membership[:, :-1])


def test_refuses_a_shadow_without_a_class(experiment, membership):
    without = membership & (experiment.labels.numpy() != 1)
    with pytest.raises(UserError, match="Shadow 0 would train without class 1"):
        run_shadows(experiment, without)


@pytest.mark.parametrize(
    "change", [{"n_shadows": 7}, {"n_shadows": 2}, {"attack": "best"}, {"draws": 3}]
)
def test_refuses_options(change: dict):
    with pytest.raises(ValueError, match=next(iter(change))):
        AuditOptions(**change)
