"""A shadow is what the target's own training functions make of the shadow's examples."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tckr.classifiers.options import ClassifierOptions, DistillationOptions
from tckr.classifiers.predict import soft_labels
from tckr.classifiers.recipe import train_student, train_teacher
from tckr.errors import UserError
from tckr.membership.shadows import SHADOW_STREAM, Experiment, model_scores, run_shadows

N, M, CLASSES, STEPS = 40, 50, 3, 6
OPTIONS = ClassifierOptions(widths=(8, 12), depth=2, stride=1, batch_size=16)


def images(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pictures = torch.randint(0, 256, (n, 1, 8, 8), generator=generator)
    return pictures.to(torch.uint8), torch.arange(n) % CLASSES


MEMBERSHIP = np.arange(2 * N).reshape(2, N) % 4 < 2


def experiment(**changes) -> Experiment:
    e = Experiment(
        *images(N, 0),
        *images(M, 1),
        n_classes=CLASSES,
        steps=STEPS,
        classifier=OPTIONS,
        distillation=DistillationOptions(),
        seed=4,
    )
    return replace(e, **changes)


@pytest.mark.parametrize("source", ["on_the_fly", "stored", "hard"])
def test_target_and_shadow_are_trained_alike(source):
    distillation = DistillationOptions(labels=source, patience=1.5)
    e = experiment(distillation=distillation, sizes=(10, M))
    scores = run_shadows(e, MEMBERSHIP)
    for number, inside in enumerate(MEMBERSHIP):
        seeds = np.random.SeedSequence([e.seed, SHADOW_STREAM, number]).generate_state(2)
        teacher = train_teacher(
            e.images[inside], e.labels[inside], OPTIONS, int(seeds[0]), CLASSES, steps=STEPS
        )
        np.testing.assert_array_equal(
            scores.teacher[number], model_scores(teacher, e.images, e.labels)
        )
        for place, size in enumerate(e.sizes):
            student = train_student(
                e.synthetic[:size],
                e.synthetic_labels[:size],
                OPTIONS,
                int(seeds[1]),
                CLASSES,
                distillation=distillation,
                steps=STEPS,
                teacher=teacher,
                soft=soft_labels(teacher, e.synthetic)[:size],
            )
            np.testing.assert_array_equal(
                scores.students[place][number], model_scores(student, e.images, e.labels)
            )


def test_without_sizes_one_student_reads_everything():
    whole = run_shadows(experiment(), MEMBERSHIP)
    sized = run_shadows(experiment(sizes=(M, 7)), MEMBERSHIP)
    assert len(whole.students) == 1
    np.testing.assert_array_equal(whole.students[0], sized.students[0])
    np.testing.assert_array_equal(whole.teacher, sized.teacher)
    assert sized.students[1].shape == (2, N)
    assert not np.array_equal(sized.students[0], sized.students[1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_a_shadow_is_the_same_after_another_as_alone(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    e = experiment(device="cuda", sizes=(10, M))
    both, again = (run_shadows(e, MEMBERSHIP) for _ in range(2))
    first = run_shadows(e, MEMBERSHIP[:1])
    np.testing.assert_array_equal(both.students, again.students)
    np.testing.assert_array_equal(both.teacher[0], first.teacher[0])
    np.testing.assert_array_equal(both.students[1][0], first.students[1][0])


@pytest.mark.parametrize("size", [0, M + 1])
def test_refuses_a_size_that_is_not_there(size: int):
    with pytest.raises(UserError, match=f"{size} of {M}"):
        run_shadows(experiment(sizes=(size,)), MEMBERSHIP)
