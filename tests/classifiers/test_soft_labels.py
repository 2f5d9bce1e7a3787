"""What is told of a teacher's labels, and that students, shadows and the stored set are all told the same."""

import itertools

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from tckr.audit import attacker
from tckr.audit.options import AttackerOptions
from tckr.audit.shadow_config import ShadowConfig, StudentConfig
from tckr.audit.shadow_trainers import ShadowTrainers
from tckr.classifiers.distillation import student_spec, train_student
from tckr.classifiers.fixed_views import labels_of_views
from tckr.classifiers.heads import Lesson, fit_heads
from tckr.classifiers.options import (
    AugmentationOptions,
    ClassifierOptions,
    DistillationOptions,
    SoftLabelOptions,
)
from tckr.classifiers.predict import logits, soft_labels
from tckr.classifiers.soft_labels import soften
from tckr.classifiers.step import train_step
from tckr.classifiers.trainer import Trainer, TrainSpec
from tckr.synthesizers.private_set import SyntheticSet

C = 5
SMALL = ClassifierOptions(
    widths=(8,),
    epochs=2,
    batch_size=16,
    augmentation=AugmentationOptions(shift=0, flip=False, contrast=0, offset=0),
)
CURBED = SoftLabelOptions(temperature=2, top_k=2, confidence=0.7)


def told(**changes: float) -> ClassifierOptions:
    return SMALL.model_copy(update={"soft_labels": SoftLabelOptions(**changes)})


def probabilities(n: int = 200) -> Tensor:
    return torch.randn(n, C, generator=torch.Generator().manual_seed(0)).mul(3).softmax(1)


def images(n: int = 48) -> Tensor:
    random = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (n, 1, 8, 8), generator=random).to(torch.uint8)


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.flatten() for p in model.parameters()])


@pytest.fixture(scope="module")
def teacher() -> nn.Module:
    labels = torch.arange(48) % C
    return Trainer(images(), SMALL, C, targets=labels).fit([TrainSpec(0, 30)])[0]


def test_by_default_the_very_tensor_comes_back() -> None:
    p = probabilities()
    assert soften(p, SoftLabelOptions()) is p
    assert SoftLabelOptions().plain
    assert soften(p, SoftLabelOptions(top_k=C)) is p  # all of them


@pytest.mark.parametrize(
    ("temperature", "top_k", "confidence"),
    [*itertools.product((0.25, 1.0, 4.0), (None, 1, 3), (0.55, 1.0))],
)
def test_what_is_told_is_a_distribution_with_the_same_first_class(
    temperature: float, top_k: int | None, confidence: float
) -> None:
    p = probabilities()
    options = SoftLabelOptions(temperature=temperature, top_k=top_k, confidence=confidence)
    q = soften(p, options)
    assert torch.allclose(q.sum(1), torch.ones(len(q)), atol=1e-5)
    assert torch.equal(q.argmax(1), p.argmax(1))
    assert float(q.max()) <= confidence + 1e-6
    if top_k is not None and confidence == 1:
        assert ((q > 0).sum(1) == top_k).all()
    # Views are told like images.
    assert torch.equal(soften(torch.stack([p, p], 1), options)[:, 1], q)


def test_temperature_is_that_of_the_logits() -> None:
    z = torch.randn(50, C, generator=torch.Generator().manual_seed(2)) * 4
    for temperature in (0.5, 2.0, 10.0):
        found = soften(z.softmax(1), SoftLabelOptions(temperature=temperature))
        assert torch.allclose(found, (z / temperature).softmax(1), atol=1e-5)
    sure = torch.tensor([[1.0, 0.0, 0.0]])  # a zero stays one, and nothing is NaN
    assert soften(sure, SoftLabelOptions(temperature=4)).tolist() == [[1.0, 0.0, 0.0]]


def test_a_cap_tells_the_others_apart_no_better_than_before() -> None:
    p = torch.tensor([[0.96, 0.03, 0.01], [0.6, 0.3, 0.1]])
    q = soften(p, SoftLabelOptions(confidence=0.9))
    assert torch.allclose(q[0], torch.tensor([0.9, 0.06, 0.04]))
    assert torch.equal(q[1], p[1])  # was below it
    alone = soften(p, SoftLabelOptions(top_k=1, confidence=0.8))
    assert torch.allclose(alone, torch.tensor([0.8, 0.1, 0.1]).expand(2, 3))


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": 0},
        {"temperature": -1},
        {"temperature": float("nan")},
        {"top_k": 0},
        {"confidence": 0.5},
        {"confidence": 1.1},
        {"topk": 3},
    ],
)
def test_bad_values_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(changes))):
        SoftLabelOptions(**changes)


def test_on_the_fly_a_student_learns_what_is_told(teacher: nn.Module) -> None:
    """A step by a curbed teacher equals a step on the same probabilities, curbed beforehand."""
    pixels, rows = images(), torch.arange(16)
    options = told(temperature=2, top_k=2, confidence=0.7)
    found = []
    for way in ("teacher", "target"):
        model = Trainer(pixels, options, C).network(3).train()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        given = {"teacher": teacher}
        if way == "target":
            given = {"target": soften(soft_labels(teacher, pixels)[rows], CURBED)}
        train_step(model, optimizer, pixels, rows, options, torch.Generator(), **given)
        found.append(weights(model))
    assert torch.allclose(*found, atol=1e-5)
    model = Trainer(pixels, SMALL, C).network(3).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    train_step(model, optimizer, pixels, rows, SMALL, torch.Generator(), teacher=teacher)
    assert not torch.allclose(found[0], weights(model), atol=1e-3)


@pytest.mark.parametrize("views", [1, 3])
def test_stored_labels_are_told_once(teacher: nn.Module, views: int) -> None:
    pixels, options = images(), told(temperature=2, top_k=2, confidence=0.7)
    distillation = DistillationOptions(labels="stored", views=views)
    said = soft_labels(teacher, pixels) if views == 1 else labels_of_views(teacher, pixels, views, SMALL.augmentation)  # fmt: skip
    stored = soften(said, CURBED)
    spec = student_spec(
        pixels, distillation, 0, steps=2, teacher=teacher, augmentation=options.augmentation, told=options.soft_labels,
    )  # fmt: skip
    assert torch.equal(spec.targets, stored)
    # The holder of the set learns what it says, and does not curb it again.
    given = {"distillation": distillation, "steps": 2}
    owner = train_student(pixels, torch.zeros(48).long(), options, 0, C, **given, teacher=teacher)
    holder = train_student(pixels, torch.zeros(48).long(), options, 0, C, **given, soft=stored)
    assert torch.equal(weights(owner), weights(holder))


def test_shadows_and_the_attackers_student_are_told_the_same(teacher: nn.Module) -> None:
    pixels, labels = images(), torch.arange(48) % C

    def config(recipe: ClassifierOptions) -> ShadowConfig:
        return ShadowConfig(
            pixels, labels, C, 2, recipe, DistillationOptions(labels="on_the_fly"), 0,
            students={
                "student": StudentConfig("released", "on_the_fly"),
                attacker.RELEASED: StudentConfig("released", "stored", attacker=True),
            },
            pools={"released": SyntheticSet(pixels, labels)},
        )  # fmt: skip

    curbed = config(told(temperature=2, top_k=2, confidence=0.7))
    trainers = ShadowTrainers(curbed)
    trainer, spec = trainers.student(curbed.students["student"], 0, teacher)
    assert trainer.options.soft_labels == CURBED
    assert spec.targets is None
    _, spec = trainers.student(curbed.students[attacker.RELEASED], 0, teacher)
    assert torch.equal(spec.targets, soften(soft_labels(teacher, pixels), CURBED))
    assert attacker.recipe(curbed.classifier, "stored", 1, AttackerOptions()).soft_labels == CURBED
    # What was trained before the knob was turned is not taken for what is trained after it.
    assert curbed.fingerprint() != config(SMALL).fingerprint()


@pytest.mark.parametrize("changes", [{"top_k": 1}, {"top_k": 2}, {"temperature": 3.0}])
def test_a_head_in_closed_form_is_told_the_same_on_the_fly_and_stored(
    teacher: nn.Module, changes: dict[str, float]
) -> None:
    pixels = images()
    options = ClassifierOptions(
        architecture="scattering",
        optimiser="adamw",
        soft_labels=SoftLabelOptions(**changes),
        augmentation=AugmentationOptions(shift=0, flip=False, contrast=0, offset=0),
    )
    views = 8
    said = labels_of_views(teacher, pixels, views, options.augmentation)
    targets = soften(said, options.soft_labels)
    rows = torch.arange(len(pixels))
    (fly,) = fit_heads(pixels, [Lesson(rows, teacher=teacher)], options, C)
    (stored,) = fit_heads(pixels, [Lesson(rows, targets=targets)], options, C)
    assert torch.allclose(logits(fly, pixels), logits(stored, pixels), atol=1e-2)
    (plain,) = fit_heads(
        pixels,
        [Lesson(rows, teacher=teacher)],
        options.model_copy(update={"soft_labels": SoftLabelOptions()}),
        C,
    )
    assert not torch.allclose(logits(fly, pixels), logits(plain, pixels), atol=0.1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_captured_step_tells_the_same(teacher: nn.Module) -> None:
    options = told(temperature=2, top_k=2, confidence=0.7)
    trainer = Trainer(images(), options, C, device="cuda")
    specs = [TrainSpec(seed, 6, teacher=teacher) for seed in (1, 2)]
    together = trainer.fit(specs, side_by_side=2)
    alone = [Trainer(images(), options, C, device="cuda").fit([spec])[0] for spec in specs]
    assert all(torch.equal(weights(a), weights(b)) for a, b in zip(together, alone, strict=True))
    plain = Trainer(images(), SMALL, C, device="cuda").fit(specs[:1])[0]
    assert not torch.equal(weights(plain), weights(alone[0]))
