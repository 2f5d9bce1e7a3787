"""Real shadows on tiny data: a leaking target is found out, an innocent one is not."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from tckr.audit.audit import audit
from tckr.audit.evaluation import evaluate, one_run
from tckr.audit.membership import fingerprint, membership_matrix
from tckr.audit.options import AuditOptions, ReleaseThreat
from tckr.audit.shadow_config import ShadowConfig, StudentConfig
from tckr.audit.shadow_models import run_shadows
from tckr.audit.shadow_trainers import Scores
from tckr.audit.signals import model_scores
from tckr.classifiers.distillation import train_student, train_teacher
from tckr.classifiers.options import AugmentationOptions, ClassifierOptions, DistillationOptions
from tckr.errors import UserError
from tckr.synthesizers.private_set import SyntheticSet

N, MEMBERS, CLASSES = 200, 100, 3
# Rare enough an error that an unlucky draw does not fail the test.
OPTIONS = AuditOptions(
    attack="bavaria_t",
    n_shadows=8,
    workers=1,
    fprs=(0.1, 0.01),
    confidence=0.999,
    release=ReleaseThreat(encoder="none"),
)


def images(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise with a faint bar for the class: hard to learn, easy to memorise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES, (n,), generator=generator)
    pictures = torch.randint(0, 200, (n, 1, 12, 12), generator=generator)
    for picture, label in zip(pictures, labels, strict=True):
        picture[:, 4 * int(label)] += 40
    return pictures.to(torch.uint8), labels


@pytest.fixture(scope="module")
def config() -> ShadowConfig:
    options = ClassifierOptions(
        widths=(24,),
        epochs=10,
        batch_size=25,
        augmentation=AugmentationOptions(shift=0, flip=False, contrast=0, offset=0),
    )
    return ShadowConfig(
        *images(N, 0),
        n_classes=CLASSES,
        steps=options.steps(MEMBERS),
        classifier=options,
        distillation=DistillationOptions(),
        seed=0,
        students={"student": StudentConfig("released", "on_the_fly")},
        pools={"released": SyntheticSet(*images(N, 1))},
    )


@pytest.fixture(scope="module")
def membership() -> np.ndarray:
    return membership_matrix(N, OPTIONS.n_shadows, 0.5, 0)


@pytest.fixture(scope="module")
def scores(config: ShadowConfig, membership: np.ndarray) -> Scores:
    return run_shadows(config, membership)


def teacher_of(config: ShadowConfig, pictures: torch.Tensor, labels: torch.Tensor):
    return train_teacher(pictures, labels, config.classifier, 77, CLASSES, steps=config.steps)


IS_MEMBER = np.arange(N) < MEMBERS


def test_overfitted_target_leaks_and_another_does_not(config, membership, scores):
    leaking = teacher_of(config, config.images[:MEMBERS], config.labels[:MEMBERS])
    innocent = teacher_of(config, *images(MEMBERS, 2))
    found, nothing = (
        audit(
            model_scores(model, config.images, config.labels),
            scores["teacher"],
            membership,
            IS_MEMBER,
            accuracy_percent=60.0,
            options=OPTIONS,
            scope="classifier",
        )
        for model in (leaking, innocent)
    )
    assert found.primary.auc.low > 0.6
    assert found.primary.tpr.value > 0.2
    assert found.primary.aop.value < 60
    assert nothing.primary.auc.low < 0.5 < nothing.primary.auc.high


def test_report_says_what_was_done(config, membership, scores):
    teacher = teacher_of(config, config.images[:MEMBERS], config.labels[:MEMBERS])
    student = train_student(
        *config.pools["released"],
        config.classifier,
        78,
        CLASSES,
        distillation=config.distillation,
        steps=config.steps,
        teacher=teacher,
    )
    report = audit(
        model_scores(student, config.images, config.labels),
        scores["student"],
        membership,
        IS_MEMBER,
        accuracy_percent=55.0,
        options=OPTIONS,
        scope="distillation",
    )
    json.dumps(report.model_dump(mode="json"), allow_nan=False)
    assert report.primary_attack == "bavaria_t"
    assert next(iter(report.attacks)) == "bavaria_t"
    assert {"lira_online", "lira_offline", "rmia", "threshold"} <= set(report.attacks)
    assert "qmia" not in report.attacks  # there were no features
    assert report.primary.auc == report.attacks["bavaria_t"].auc
    assert [tpr.fpr for tpr in report.primary.tprs] == [0.1, 0.01]
    assert report.primary.tprs[1].note == "not measurable with 100 non-members"
    assert [ppv.prior for ppv in report.primary.tpr.ppv] == [0.01, 0.1, 0.5]
    assert report.canaries is None
    assert report.membership_hash == fingerprint(membership)
    assert "held fixed" in report.scope_note
    assert (report.n_members, report.n_non_members) == (MEMBERS, N - MEMBERS)


def test_canaries_stand_apart(config, membership, scores):
    """Mislabelled members can only be known by heart: the audit finds them among mislabelled non-members."""
    canary = np.arange(N) % 5 == 0
    wrong = torch.where(torch.from_numpy(canary), (config.labels + 1) % CLASSES, config.labels)
    mislabelled = replace(config, labels=wrong)
    found = audit(
        model_scores(
            teacher_of(config, config.images[:MEMBERS], wrong[:MEMBERS]), config.images, wrong
        ),
        run_shadows(mislabelled, membership)["teacher"],
        membership,
        IS_MEMBER,
        accuracy_percent=60.0,
        options=OPTIONS,
        scope="classifier",
        features=np.random.default_rng(0).normal(size=(N, 4)).astype(np.float32),
        canary=canary,
    )
    canaries = found.canaries
    json.dumps(found.model_dump(mode="json"), allow_nan=False)
    assert (canaries.count, canaries.members) == (40, 20)
    assert canaries.over_shadows.auc.low > 0.6
    assert canaries.over_shadows.auc.n_members == 8 * 40 // 2
    assert canaries.one_run.value >= 0
    assert "qmia" in found.attacks


def test_epsilon_of_a_leak_does_not_hang_on_a_split():
    """3,000 members shifted by 0.3: a threshold from one half, tested on the other, bounds epsilon by 0 at 9 seeds of 20."""
    random, inside = np.random.default_rng(0), np.arange(6000) < 3000
    scores = np.r_[random.normal(0.3, 1, 3000), random.normal(size=3000)]
    options = OPTIONS.model_copy(update={"confidence": 0.95})
    found = evaluate("rmia", "", scores, inside, options)
    assert found.epsilon.value == pytest.approx(0.30, abs=0.01)
    assert "of 600 guesses right" in found.epsilon.method
    assert evaluate("qmia", "", scores, inside, options).epsilon is None


def test_qmia_without_features_is_refused_and_over_shadows_says_what_it_runs(membership):
    options = OPTIONS.model_copy(update={"attack": "qmia"})
    random = np.random.default_rng(0)
    arguments = {"accuracy_percent": 60.0, "options": options, "scope": "classifier"}
    target, shadow = random.normal(size=N), random.normal(size=membership.shape)
    with pytest.raises(UserError, match="qmia needs features"):
        audit(target, shadow, membership, IS_MEMBER, **arguments)
    features = random.normal(size=(N, 4)).astype(np.float32)
    canary = np.arange(N) % 5 == 0
    found = audit(
        target, shadow, membership, IS_MEMBER, features=features, canary=canary, **arguments
    )
    assert found.primary_attack == "qmia"
    assert found.canaries.over_shadows.name == found.recipe.attack.name == "threshold"


def test_members_and_holdout_of_unequal_number(config):
    """4,000 members and 1,000 others: shadows of 2,500 images take 0.625 of the steps, and the audit says what is off."""
    uneven = replace(config, steps=1000, members=4000)
    assert [uneven.steps_of(images) for images in (2500, 3900, 4000)] == [625, 1000, 1000]
    assert replace(uneven, members=None).steps_of(2500) == 1000
    random, inside = np.random.default_rng(0), np.arange(N) < 160
    drawn = membership_matrix(N, 8, 0.5, 0)
    found = audit(
        random.normal(size=N),
        random.normal(size=drawn.shape),
        drawn,
        inside,
        accuracy_percent=60.0,
        options=OPTIONS,
        scope="classifier",
    )
    assert "a shadow trains on 100 images, the target did on 160" in found.scope_note


def test_epsilon_needs_as_many_members_as_others():
    """Scores that say nothing, four times as many members: whoever guesses "member" throughout is right 80 % of the time."""
    random, inside = np.random.default_rng(1), np.arange(5000) < 4000
    found = one_run(random.normal(size=5000), inside, 0.1, OPTIONS)
    assert found.value < 0.2
    assert "of 200 guesses right" in found.method


@pytest.mark.parametrize("labels", ["hard", "on_the_fly"])
def test_hard_labels_on_fixed_images_are_not_measured(labels: str):
    """The released images give away their members by 0.6, to the target and, as the same images, to every shadow."""
    random, n = np.random.default_rng(0), 6000
    inside, matrix = np.arange(n) < n // 2, membership_matrix(n, 8, 0.5, 0)
    easy = random.normal(size=n) + 0.6 * inside
    found = audit(
        easy + 0.3 * random.normal(size=n),
        easy + 0.3 * random.normal(size=(8, n)),
        matrix,
        inside,
        accuracy_percent=80.0,
        options=OPTIONS.model_copy(update={"attack": "rmia"}),
        scope="distillation",
        labels=labels,
    )
    assert found.primary.auc.value == pytest.approx(0.5, abs=0.02)  # where a threshold finds 66
    assert found.attacks["threshold"].auc.value > 0.64
    figures = found.with_accuracy()
    assert figures["accuracy"] == 80.0
    if labels == "hard":
        assert (found.shows, figures["AUC_MIA"], figures["AOP"]) == ("nothing", None, None)
        assert "scope: pipeline" in found.limits
    else:
        assert found.shows == "both"
        assert figures["AOP"] is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_shadows": 7}, "even"),
        ({"n_shadows": 6, "variance": "per_example"}, "needs 8 shadows"),
        ({"attribution": True}, "needs scope: pipeline"),
        ({"fprs": (0.0,)}, "between 0 and 1"),
        ({"attack": "guess"}, "bavaria_t"),
    ],
)
def test_options_refuse_what_cannot_be_measured(change, message):
    with pytest.raises(ValueError, match=message):
        AuditOptions.model_validate(OPTIONS.model_dump() | change)


def test_shadows_know_their_own_members_best(membership, scores):
    gap = scores["teacher"][membership].mean() - scores["teacher"][~membership].mean()
    taught = scores["student"][membership].mean() - scores["student"][~membership].mean()
    assert gap > 1
    assert taught < gap


def test_shadows_are_seeded_and_the_same_in_other_processes(config, membership, scores):
    again = run_shadows(config, membership[:2], workers=2)
    for name, values in again.items():
        np.testing.assert_allclose(values, scores[name][:2], rtol=1e-3, atol=1e-3)


def test_refuses_a_matrix_of_other_data(config, membership):
    with pytest.raises(UserError, match="not of these 200"):
        run_shadows(config, membership[:, :-1])


def test_refuses_a_shadow_without_a_class(config, membership):
    without = membership & (config.labels.numpy() != 1)
    with pytest.raises(UserError, match="Shadow 0 would train without class 1"):
        run_shadows(config, without)
