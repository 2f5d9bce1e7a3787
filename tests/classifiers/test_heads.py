"""Students on the scattering transform: copies of a teacher on the same features, whatever images they see."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tckr.audit.shadow_config import ShadowConfig, StudentConfig
from tckr.audit.shadow_models import run_shadows
from tckr.classifiers.distillation import train_student, train_teacher
from tckr.classifiers.features import LinearOnFeatures, Scattering
from tckr.classifiers.fixed_views import labels_of_views
from tckr.classifiers.heads import PART, Lesson, _Dual, _Primal, fit_heads
from tckr.classifiers.models import build, load, save
from tckr.classifiers.options import AugmentationOptions, ClassifierOptions, DistillationOptions
from tckr.classifiers.predict import accuracy, logits, soft_labels
from tckr.classifiers.resnet import ResNet
from tckr.classifiers.trainer import Trainer, TrainSpec
from tckr.errors import UserError
from tckr.synthesizers.private_set import SyntheticSet

RECIPE = ClassifierOptions(
    architecture="scattering", augmentation=AugmentationOptions(shift=1), label_smoothing=0.0
)


def noise(n: int, seed: int, height: int = 8, width: int = 8) -> Tensor:
    """Smooth random images, which look like none of the teacher's."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 1, 4, 4, generator=generator)
    fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    return (fine * 255).to(torch.uint8)


def bars(n: int, seed: int) -> tuple[Tensor, Tensor]:
    images, labels = noise(n, seed) // 3, torch.arange(n) % 3
    for image, label in zip(images, labels, strict=True):
        image[:, 2 * label + 1 : 2 * label + 3] += 150
    return images, labels


@pytest.fixture(scope="module")
def teacher() -> LinearOnFeatures:
    network = LinearOnFeatures(Scattering(1, 8, 8), 3)
    generator = torch.Generator().manual_seed(3)
    network.head.weight.data.copy_(
        0.1 * torch.randn(3, network.head.in_features, generator=generator)
    )
    return network.eval()


def student_of(teacher, images, source, views=1, **given):
    return train_student(
        images, torch.zeros(len(images), dtype=torch.int64), RECIPE, 0, 3,
        distillation=DistillationOptions(labels=source, views=views), steps=1, teacher=teacher, **given,
    )  # fmt: skip


@pytest.mark.parametrize(("source", "views"), [("on_the_fly", 1), ("stored", 1), ("stored", 4)])
def test_a_student_is_its_teacher_on_images_of_another_kind(teacher, source, views):
    student = student_of(teacher, noise(900, 0), source, views)
    images, _ = bars(200, 1)
    assert (logits(student, images).argmax(1) == logits(teacher, images).argmax(1)).all()
    assert (soft_labels(student, images) - soft_labels(teacher, images)).abs().max() < 0.01


def test_stored_labels_of_a_set_are_enough(teacher):
    images = noise(300, 0)
    soft = labels_of_views(teacher, images, 4, RECIPE.augmentation)
    student = student_of(None, images, "stored", soft=soft)
    assert torch.equal(student.head.weight, student_of(teacher, images, "stored", 4).head.weight)


def test_more_views_come_closer(teacher):
    images, others = noise(60, 0), bars(200, 1)[0]

    def miss(views: int) -> float:
        student = student_of(teacher, images, "stored", views)
        return float((soft_labels(student, others) - soft_labels(teacher, others)).abs().mean())

    assert miss(8) < 0.5 * miss(1)


def test_a_teacher_learns_classes():
    images, labels = bars(240, 0)
    network = train_teacher(images, labels, RECIPE, 1, 3)
    images, labels = bars(300, 9)
    assert accuracy(logits(network, images), labels)["accuracy"] > 95
    assert torch.equal(
        network.head.weight, train_teacher(*bars(240, 0), RECIPE, 7, 3).head.weight
    )  # no seed


def test_a_teacher_of_another_kind_is_approximated():
    images, labels = bars(240, 0)
    resnet = train_teacher(
        images, labels, ClassifierOptions(widths=(8, 16), epochs=8, batch_size=32), 1, 3
    )
    student = student_of(resnet, images, "on_the_fly")
    others, classes = bars(300, 9)
    assert accuracy(logits(student, others), classes)["accuracy"] > 90


def test_networks_side_by_side_are_those_trained_alone(teacher):
    images, labels = noise(80, 0), torch.arange(80) % 3
    trainer = Trainer(images, RECIPE, 3, targets=labels)
    specs = [
        TrainSpec(1, 5, torch.arange(40)),
        TrainSpec(2, 5, teacher=teacher),
        TrainSpec(3, 5),
        TrainSpec(4, 5, torch.arange(40), targets=soft_labels(teacher, images)),
    ]
    together = trainer.fit(specs)
    for spec, network in zip(specs, together, strict=True):
        assert torch.allclose(network.head.weight, trainer.fit([spec])[0].head.weight, atol=1e-5)
        assert not network.training


def test_only_the_named_images_are_read():
    images, labels = noise(80, 0), torch.arange(80) % 3
    few = Trainer(images[:40], RECIPE, 3, targets=labels[:40]).fit([TrainSpec(0)])[0]
    named = Trainer(images, RECIPE, 3, targets=labels).fit([TrainSpec(0, None, torch.arange(40))])[
        0
    ]
    assert torch.equal(few.head.weight, named.head.weight)


def test_soft_labels_are_not_smoothed(teacher):
    images = noise(60, 0)
    smooth = RECIPE.model_copy(update={"label_smoothing": 0.3})
    targets = soft_labels(teacher, images)
    plain, other = (
        Trainer(images, o, 3, targets=targets).fit([TrainSpec(0)])[0] for o in (RECIPE, smooth)
    )
    assert torch.equal(plain.head.weight, other.head.weight)


def test_the_ridge_shrinks_the_head():
    images, labels = noise(60, 0), torch.arange(60) % 3
    weak, strong = (
        Trainer(images, RECIPE.model_copy(update={"ridge": ridge}), 3, targets=labels).fit(
            [TrainSpec(0)]
        )[0]
        for ridge in (0.01, 10.0)
    )
    assert strong.head.weight.norm() < 0.5 * weak.head.weight.norm()


def test_it_is_saved_and_loaded(teacher, tmp_path):
    student = student_of(teacher, noise(60, 0, 8, 12), "hard")
    save(student, tmp_path / "student")
    back = load(tmp_path / "student")
    assert back.config == student.config == build(RECIPE, 1, 3, (8, 12)).config
    images = noise(5, 1, 8, 12)
    assert torch.equal(logits(back, images), logits(student, images))


@settings(deadline=None, max_examples=40)
@given(
    rows=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    size=st.integers(1, 90),
    ridges=st.lists(st.sampled_from([1e-5, 1e-3, 1.0]), min_size=1, max_size=3),
    seed=st.integers(0, 1000),
)
def test_rows_and_features_give_one_solution(rows, size, ridges, seed):
    draw = torch.Generator().manual_seed(seed)
    primal, dual = (
        _Primal(size, 3, len(ridges), "cpu"),
        _Dual(size, 3, sum(rows), len(ridges), "cpu"),
    )
    for count in rows:
        x = torch.randn(count, size, generator=draw)
        wanted = [torch.randn(count, 3, generator=draw, dtype=torch.float64) for _ in ridges]
        primal.add(x, wanted)
        dual.add(x, wanted)
    for ours, theirs in zip(dual.solve(ridges), primal.solve(ridges), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))


def test_blocks_of_rows_make_up_the_products():
    x = torch.randn(PART + 30, 7, generator=torch.Generator().manual_seed(0))
    dual = _Dual(7, 1, len(x), 1, "cpu")
    for part in x.split(100):
        dual.add(part, [part[:, :1].double()])
    torch.testing.assert_close(dual._products(), x.double() @ x.double().T)


@pytest.mark.parametrize("views", [1, 3])
def test_few_images_with_views_of_their_own_labels_are_solved_over_rows(
    teacher, views, monkeypatch
):
    images = noise(30, 0)
    soft = labels_of_views(teacher, images, views, RECIPE.augmentation)
    lessons = [
        Lesson(torch.arange(30), targets=soft),
        Lesson(torch.arange(30), targets=soft.flip(-1)),
    ]
    over_rows = fit_heads(images, lessons, RECIPE, 3)

    def over_features(size, n_classes, rows, lessons, device):
        return _Primal(size, n_classes, lessons, device)

    monkeypatch.setattr("tckr.classifiers.heads._Dual", over_features)
    for ours, theirs in zip(over_rows, fit_heads(images, lessons, RECIPE, 3), strict=True):
        assert not torch.equal(ours.head.weight, theirs.head.weight)  # two ways, one solution
        torch.testing.assert_close(ours.head.weight, theirs.head.weight, rtol=1e-3, atol=1e-5)


def test_images_with_too_many_features_are_refused():
    with pytest.raises(UserError, match=r"ingestion\.size"):
        Trainer(
            torch.zeros(4, 3, 64, 64, dtype=torch.uint8), RECIPE, 2, targets=torch.arange(4) % 2
        ).fit([TrainSpec(0)])


def test_shadows_of_an_audit_take_it():
    images, labels = bars(40, 0)
    config = ShadowConfig(
        images, labels, 3, steps=2, classifier=RECIPE, distillation=DistillationOptions(labels="stored", views=3),
        seed=0, students={"student": StudentConfig("released", "stored"), "hard": StudentConfig("released", "hard")},
        pools={"released": SyntheticSet(noise(50, 2), torch.arange(50) % 3)},
    )  # fmt: skip
    inside = torch.zeros(2, 40, dtype=torch.bool)
    inside[0, :21] = inside[1, 19:] = True
    scores = run_shadows(config, inside.numpy())
    assert scores["student"].shape == (2, 40, 1)
    # 50 images with three views each do not quite determine the 325 weights of a class.
    assert abs(scores["student"] - scores["teacher"]).max() < 0.2 * abs(scores["teacher"]).max()
    assert abs(scores["student"][0] - scores["student"][1]).max() > 0


def test_a_residual_network_trains_on_stored_views():
    images, labels = bars(120, 0)
    recipe = ClassifierOptions(widths=(8, 16), batch_size=32)
    resnet = train_teacher(images, labels, recipe, 1, 3, steps=60)
    assert isinstance(resnet, ResNet)
    student = train_student(
        images, labels, recipe, 2, 3, distillation=DistillationOptions(labels="stored", views=4), steps=60,
        teacher=resnet,
    )  # fmt: skip
    others, classes = bars(300, 9)
    assert accuracy(logits(student, others), classes)["accuracy"] > 90
