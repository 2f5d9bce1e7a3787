"""Training learns, is seeded, and takes every kind of label."""

import pytest
import torch
from torch import Tensor

from tckr.classifiers.distillation import train_student, train_teacher
from tckr.classifiers.optimizers import one_cycle
from tckr.classifiers.options import AugmentationOptions, ClassifierOptions, DistillationOptions
from tckr.classifiers.predict import accuracy, logits, soft_labels
from tckr.classifiers.resnet import ResNet, stem_stride
from tckr.classifiers.trainer import Trainer, TrainSpec

SMALL = ClassifierOptions(widths=(8, 16), epochs=8, batch_size=32)


def toy(n: int, seed: int, channels: int = 1, size: int = 16) -> tuple[Tensor, Tensor]:
    """Three classes: a bright bar at the top, in the middle, or at the bottom, in noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    images = torch.randint(0, 120, (n, channels, size, size), generator=generator)
    third = size // 3
    for image, label in zip(images, labels, strict=True):
        image[:, label * third : label * third + 3] += 100
    return images.to(torch.uint8), labels


def weights(model: ResNet) -> Tensor:
    return torch.cat([p.flatten() for p in model.parameters()])


@pytest.fixture(scope="module")
def teacher() -> ResNet:
    return train_teacher(*toy(240, 0), SMALL, 1, 3)


def test_learns(teacher: ResNet):
    images, labels = toy(300, 9)
    assert accuracy(logits(teacher, images), labels)["accuracy"] > 95
    assert not teacher.training


def test_same_seed_same_network(teacher: ResNet):
    images, labels = toy(240, 0)
    torch.manual_seed(123)  # the state outside must not matter
    assert torch.equal(weights(teacher), weights(train_teacher(images, labels, SMALL, 1, 3)))
    assert not torch.equal(weights(teacher), weights(train_teacher(images, labels, SMALL, 2, 3)))


def test_leaves_the_random_state_alone():
    torch.manual_seed(7)
    before = torch.get_rng_state()
    train_teacher(*toy(30, 0), SMALL, 1, 3, steps=1)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("source", ["on_the_fly", "stored", "hard"])
def test_student_learns_from_each_kind_of_label(teacher: ResNet, source):
    images, labels = toy(240, 5)
    if source != "hard":
        labels = torch.zeros_like(labels)  # the knowledge is the teacher's alone
    student = train_student(
        images,
        labels,
        SMALL,
        3,
        3,
        distillation=DistillationOptions(labels=source),
        steps=SMALL.steps(240),
        teacher=teacher,
    )
    test_images, test_labels = toy(300, 9)
    assert accuracy(logits(student, test_images), test_labels)["accuracy"] > 90


def test_stored_labels_are_those_of_the_teacher(teacher: ResNet):
    images, labels = toy(60, 5)
    given = {"distillation": DistillationOptions(labels="stored"), "steps": 5}
    computed = train_student(images, labels, SMALL, 3, 3, **given, teacher=teacher)
    stored = train_student(images, labels, SMALL, 3, 3, **given, soft=soft_labels(teacher, images))
    assert torch.equal(weights(computed), weights(stored))


@pytest.mark.parametrize("source", ["on_the_fly", "stored"])
def test_soft_labels_need_their_source(source):
    options = DistillationOptions(labels=source)
    with pytest.raises(ValueError, match="teacher"):
        train_student(*toy(30, 0), SMALL, 0, 3, distillation=options, steps=1)


@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 32), (3, 64), (3, 33), (1, 8)])
def test_any_size_grey_or_colour(channels: int, size: int):
    images, labels = toy(12, 0, channels, size)
    model = train_teacher(images, labels, SMALL, 0, 3, steps=2)
    assert logits(model, images).shape == (12, 3)
    assert model.stride == stem_stride(size)


@pytest.mark.parametrize(("stride", "depth", "side"), [(1, 2, 14), (4, 3, 4)])
def test_depth_and_stride_are_those_asked_for(stride: int, depth: int, side: int):
    options = SMALL.model_copy(update={"stride": stride, "depth": depth})
    images, labels = toy(12, 0, size=28)
    model = train_teacher(images, labels, options, 0, 3, steps=1)
    assert (model.stride, len(model.stages)) == (stride, 2 * depth)
    maps = []
    model.stages.register_forward_hook(lambda module, given, result: maps.append(result.shape))
    logits(model, images)
    assert maps == [(12, 16, side, side)]


@pytest.mark.parametrize("source", ["on_the_fly", "stored"])
def test_leaves_the_teacher_as_it_is(teacher: ResNet, source):
    lent = ResNet(**teacher.config).requires_grad_(True)
    lent.load_state_dict(teacher.state_dict())
    before = {name: value.clone() for name, value in lent.state_dict().items()}
    train_student(
        *toy(30, 0),
        SMALL,
        0,
        3,
        distillation=DistillationOptions(labels=source),
        steps=2,
        teacher=lent,
    )
    assert all(torch.equal(before[name], value) for name, value in lent.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in lent.parameters())


def test_a_patient_student_trains_longer(teacher: ResNet):
    given = {"teacher": teacher, "distillation": DistillationOptions(patience=2.5)}
    patient = train_student(*toy(60, 5), SMALL, 3, 3, **given, steps=4)
    (long,) = Trainer(toy(60, 5)[0], SMALL, 3).fit([TrainSpec(3, 10, teacher=teacher)])
    assert torch.equal(weights(patient), weights(long))
    assert DistillationOptions(patience=0.1).steps(2) == 1


def test_fewer_images_than_a_batch():
    train_teacher(*toy(5, 0), SMALL, 0, 3, steps=2)


def test_steps_follow_the_members():
    assert ClassifierOptions(epochs=3, batch_size=64).steps(129) == 9


def test_one_cycle_rises_and_falls_to_nothing():
    rates = [one_cycle((i + 0.5) / 100, 0.25) for i in range(100)]
    assert rates.index(max(rates)) in (24, 25)
    assert rates[-1] < 0.01
    assert one_cycle(0.5, 0.0) == 0.5


@pytest.mark.parametrize(
    ("images", "targets"),
    [
        (torch.zeros(4, 1, 8, 8), torch.zeros(4).long()),
        (torch.zeros(0, 1, 8, 8).byte(), torch.zeros(0).long()),
        (torch.zeros(4, 1, 8, 8).byte(), torch.zeros(3).long()),
        (torch.zeros(4, 1, 8, 8).byte(), torch.full((4,), 3)),
        (torch.zeros(4, 1, 8, 8).byte(), torch.zeros(4, 2)),
    ],
)
def test_refuses(images: Tensor, targets: Tensor):
    with pytest.raises(ValueError, match=r"must|targets"):
        train_teacher(images, targets, SMALL, 0, 3)


def test_refuses_unknown_options():
    with pytest.raises(ValueError, match="wdiths"):
        ClassifierOptions(wdiths=(8,))
    with pytest.raises(ValueError, match="contrast"):
        AugmentationOptions(contrast=2)
