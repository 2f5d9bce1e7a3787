"""One trainer trains many networks, and none of them leaves a trace in the next."""

import pickle

import pytest
import torch
from torch import Tensor

from copies import no_copies
from tckr.classifiers import feed as feeds
from tckr.classifiers.distillation import train_student
from tckr.classifiers.features import LinearOnFeatures, Scattering
from tckr.classifiers.feed import Resident, Streamed
from tckr.classifiers.models import Network
from tckr.classifiers.options import (
    ClassifierOptions,
    DistillationOptions,
    LabelSource,
    RegenerationOptions,
)
from tckr.classifiers.predict import logits
from tckr.classifiers.resnet import ResNet
from tckr.classifiers.slots import TrainingSlot, compiled
from tckr.classifiers.trainer import Trainer, TrainSpec
from tckr.errors import UserError

OPTIONS = ClassifierOptions(widths=(8, 16), depth=2, epochs=2, batch_size=16)
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
N, CLASSES = 60, 3
CPU = torch.device("cpu")


def pool(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (N, 1, 12, 12), generator=generator)
    return images.to(torch.uint8), torch.randint(0, CLASSES, (N,), generator=generator)


def fit(trainer: Trainer, spec: TrainSpec) -> Network:
    return trainer.fit([spec])[0]


def alone(images: Tensor, targets: Tensor | None, spec: TrainSpec, device: str = "cpu") -> Network:
    """What a trainer of its own makes of `spec`."""
    return fit(Trainer(images, OPTIONS, CLASSES, targets=targets, device=device), spec)


IMAGES, LABELS = pool(0)
TEACHER, OTHER = (alone(IMAGES, LABELS, TrainSpec(seed, 3)) for seed in (9, 8))


@pytest.fixture(autouse=True)
def repeatable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)


def same(one: ResNet, other: ResNet) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("device", DEVICES)
def test_a_network_is_the_same_after_others_as_alone(device: str):
    trainer = Trainer(IMAGES, OPTIONS, CLASSES, targets=LABELS, device=device)
    indices = torch.arange(0, N, 2)
    first = fit(trainer, TrainSpec(1, 5))
    part = fit(trainer, TrainSpec(2, 3, indices))
    longer = fit(trainer, TrainSpec(1, 6))
    assert same(first, fit(trainer, TrainSpec(1, 5)))
    assert same(part, alone(IMAGES[indices], LABELS[indices], TrainSpec(2, 3), device))
    assert same(part, fit(trainer, TrainSpec(2, 3, indices)))
    assert not same(first, longer)


@pytest.mark.parametrize("device", DEVICES)
def test_each_student_has_its_own_teacher(device: str):
    trainer = Trainer(IMAGES, OPTIONS, CLASSES, device=device)
    specs = [TrainSpec(1, 4, teacher=teacher) for teacher in (TEACHER, OTHER, TEACHER)]
    taught = [fit(trainer, spec) for spec in specs]
    assert same(taught[0], taught[2])
    assert not same(taught[0], taught[1])
    assert same(taught[1], alone(IMAGES, LABELS, specs[1], device))


@pytest.mark.parametrize("device", DEVICES)
def test_targets_can_change(device: str):
    soft = torch.rand(N, CLASSES, generator=torch.Generator().manual_seed(0)).softmax(1)
    trainer = Trainer(IMAGES, OPTIONS, CLASSES, targets=LABELS, device=device)
    hard = fit(trainer, TrainSpec(1, 3))
    assert same(hard, fit(trainer, TrainSpec(1, 3, targets=LABELS)))
    softer = fit(trainer, TrainSpec(1, 3, targets=soft))
    assert same(softer, alone(IMAGES, soft, TrainSpec(1, 3), device))
    assert same(hard, fit(trainer, TrainSpec(1, 3)))
    assert not same(hard, softer)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("side_by_side", [1, 2, 5])
def test_a_network_is_the_same_beside_others_as_alone(device: str, side_by_side: int):
    """With other labels, seeds, images and lengths; on a GPU they are replayed side by side."""
    soft = torch.rand(N, CLASSES, generator=torch.Generator().manual_seed(0)).softmax(1)
    pools = {
        Trainer(IMAGES, OPTIONS, CLASSES, targets=LABELS, device=device): [
            TrainSpec(1, 5),
            TrainSpec(3, 4, torch.arange(0, N, 2)),
            TrainSpec(1, 5, targets=soft),
        ],
        Trainer(pool(3)[0], OPTIONS, CLASSES, device=device): [
            TrainSpec(2, 7, teacher=TEACHER),
            TrainSpec(2, 7, teacher=OTHER),
        ],
    }
    for _ in range(2):  # the second time captured steps are used again
        for trainer, specs in pools.items():
            together = trainer.fit(specs, side_by_side=side_by_side)
            for spec, found in zip(specs, together, strict=True):
                assert same(found, fit(trainer, spec))


def test_no_specs_no_networks():
    assert Trainer(IMAGES, OPTIONS, CLASSES).fit([]) == []


@pytest.mark.parametrize("device", DEVICES)
def test_another_pool_takes_the_place(device: str):
    others, classes = pool(4)
    trainer = Trainer(IMAGES, OPTIONS, CLASSES, targets=LABELS, device=device)
    before = fit(trainer, TrainSpec(1, 3))
    trainer.replace(others, classes)
    expected = alone(others, classes, TrainSpec(1, 3), device)
    assert same(fit(trainer, TrainSpec(1, 3)), expected)
    trainer.replace(IMAGES, LABELS)
    assert same(fit(trainer, TrainSpec(1, 3)), before)
    with pytest.raises(ValueError, match="the pool is"):
        trainer.replace(others[:5])


@pytest.mark.parametrize("taught", [False, True])
def test_the_step_of_a_gpu_is_that_of_a_cpu(taught: bool):
    """Its way of looking everything up on the device, run here kernel by kernel."""
    trainer = Trainer(IMAGES, OPTIONS, CLASSES, targets=LABELS)
    network = ResNet(1, CLASSES, (8, 16), 2, 2)
    targets = None if taught else torch.nn.functional.one_hot(LABELS, CLASSES).float()
    first = TEACHER if taught else None
    slot = TrainingSlot(trainer._feed(), OPTIONS, network, first, targets, 7)
    for seed, steps, teacher in ((5, 7, TEACHER), (1, 4, OTHER)):
        given = teacher if taught else None
        expected = fit(trainer, TrainSpec(seed, steps, teacher=given))
        assert slot.fits(steps, given)
        slot.load(trainer.network(seed), trainer.order(seed, steps), given, targets, seed)
        for _ in range(steps):
            slot.advance()
        for name, value in expected.state_dict().items():
            found = slot.model.state_dict()[name]
            torch.testing.assert_close(found, value, rtol=1e-3, atol=1e-4, msg=name)
    assert not slot.fits(8, TEACHER if taught else None)
    assert not slot.fits(4, None if taught else TEACHER)
    assert not slot.fits(4, ResNet(1, CLASSES, (8,), 2))


@pytest.mark.parametrize("taught", [False, True])
def test_a_streamed_batch_trains_as_a_resident_set_does(taught: bool):
    """What a GPU does where the images do not fit, run here kernel by kernel: the same network to the bit."""
    targets = None if taught else torch.nn.functional.one_hot(LABELS, CLASSES).float()
    teacher = TEACHER if taught else None
    slots = [
        TrainingSlot(feed, OPTIONS, ResNet(1, CLASSES, (8, 16), 2, 2), teacher, targets, 7)
        for feed in (Resident(IMAGES), Streamed(lambda: IMAGES, OPTIONS.batch_size, CPU))
    ]
    trainer = Trainer(IMAGES, OPTIONS, CLASSES, targets=LABELS)
    for seed, steps in ((5, 7), (1, 4), (2, 1)):
        for slot in slots:
            slot.load(trainer.network(seed), trainer.order(seed, steps), teacher, targets, seed)
            slot.start()
            for _ in range(steps):
                slot.advance()
            slot.close()
        assert same(slots[0].model, slots[1].model)


def test_a_stream_brings_each_batch_in_order_and_can_begin_again():
    images = IMAGES
    feed = Streamed(lambda: images, 4, CPU)
    address = feed.images.data_ptr()
    for order in (torch.arange(40).view(10, 4), torch.tensor([[3, 3, 1, 0]])):
        feed.start(order)
        for index in order:
            feed.next()
            assert torch.equal(feed.images, images[index])
            assert feed.rows(index).tolist() == [0, 1, 2, 3]
    feed.start(
        torch.arange(40).view(10, 4)
    )  # given up after one batch, and other images in their place
    feed.next()
    images = pool(4)[0]
    feed.start(torch.arange(4).view(1, 4))
    feed.next()
    feed.close()
    assert torch.equal(feed.images, images[:4])
    assert feed.images.data_ptr() == address


def test_what_goes_wrong_while_images_are_read_is_not_lost():
    feed = Streamed(lambda: IMAGES, 2, CPU)
    feed.start(torch.tensor([[0, N]]))
    with pytest.raises((IndexError, RuntimeError), match="out of range"):
        feed.next()
    feed.close()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("side_by_side", [1, 3])
def test_on_a_gpu_a_streamed_set_gives_the_same_networks_as_a_resident_one(side_by_side: int):
    soft = torch.rand(N, CLASSES, generator=torch.Generator().manual_seed(0)).softmax(1)
    specs = [
        TrainSpec(1, 25),
        TrainSpec(3, 11, torch.arange(0, N, 2)),
        TrainSpec(1, 25, targets=soft),
        TrainSpec(2, 2),
    ]
    resident, streamed = (
        Trainer(IMAGES, OPTIONS, CLASSES, targets=LABELS, device="cuda", resident=there)
        for there in (True, False)
    )
    assert (resident.images.is_cuda, streamed.images.is_cuda) == (True, False)
    for _ in range(2):  # the second time captured steps are used again
        pairs = zip(
            resident.fit(specs, side_by_side=side_by_side),
            streamed.fit(specs, side_by_side=side_by_side),
            strict=True,
        )
        assert all(same(one, other) for one, other in pairs)
        for trainer in (resident, streamed):
            trainer.replace(*pool(4))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_a_set_is_streamed_when_it_does_not_fit(monkeypatch: pytest.MonkeyPatch):
    assert Trainer(IMAGES, OPTIONS, CLASSES, device="cuda").resident
    monkeypatch.setattr(feeds, "RESIDENT_SHARE", 1e-12)
    assert not Trainer(IMAGES, OPTIONS, CLASSES, device="cuda").resident
    assert Trainer(IMAGES.cuda(), OPTIONS, CLASSES, device="cuda").resident  # it is there already


@pytest.mark.parametrize("labels", ["hard", "on_the_fly", "stored"])
def test_no_copy_of_the_images_is_made(labels: LabelSource):
    """Whatever a set has of images, training and prediction hold a batch of them beside it."""
    images = torch.randint(0, 256, (3000, 1, 12, 12), dtype=torch.uint8)
    classes = torch.arange(3000) % CLASSES
    options = OPTIONS.model_copy(update={"widths": (4,)})
    distillation = DistillationOptions(labels=labels)
    teacher = Trainer(IMAGES, options, CLASSES, targets=LABELS).fit([TrainSpec(0, 1)])[0]
    with no_copies(images, share=0.1):
        student = train_student(
            images, classes, options, 0, CLASSES,
            distillation=distillation, steps=2, teacher=teacher,
        )  # fmt: skip
        logits(student, images, batch_size=16)
    with pytest.raises(AssertionError, match=r"makes .* beside 432,000"), no_copies(images):
        images.float()


def test_goes_to_other_processes():
    trainer = Trainer(IMAGES, OPTIONS, CLASSES, targets=LABELS)
    again = pickle.loads(pickle.dumps(trainer))
    assert same(fit(trainer, TrainSpec(1, 2)), fit(again, TrainSpec(1, 2)))


def test_refuses():
    trainer = Trainer(IMAGES, OPTIONS, CLASSES)
    with pytest.raises(ValueError, match="neither targets nor a teacher"):
        trainer.fit([TrainSpec(0)])
    with pytest.raises(ValueError, match="59"):
        trainer.fit([TrainSpec(0, indices=torch.tensor([0, N]), teacher=TEACHER)])
    with pytest.raises(ValueError, match="59"):
        trainer.fit([TrainSpec(0, indices=torch.zeros(0, dtype=torch.int64), teacher=TEACHER)])
    with pytest.raises(ValueError, match="60 images but 3 targets"):
        trainer.fit([TrainSpec(0, targets=torch.zeros(3, dtype=torch.int64))])


@pytest.mark.parametrize("device", DEVICES)
def test_a_training_that_diverges_is_an_error_that_says_so(device: str):
    wild = OPTIONS.model_copy(update={"learning_rate": 1e30})
    trainer = Trainer(IMAGES, wild, CLASSES, targets=LABELS, device=device)
    with pytest.raises(UserError, match=r"training of the teacher diverged.*learning_rate"):
        trainer.fit([TrainSpec(0)], "teacher")


@pytest.mark.parametrize("device", DEVICES)
def test_fresh_images_take_the_place_of_the_old_slice_by_slice(device: str):
    """Three slices of 20, each for two passes: 8 passes of batches that run over their ends, as a loop would do it."""
    trainer = Trainer(IMAGES, OPTIONS, CLASSES, device=device)
    regenerate = RegenerationOptions(every=2, slices=3)
    steps = 10
    generator, expected = torch.Generator().manual_seed(5), []
    for epoch in range(8):
        first = 20 * (0, 0, 1, 1, 2, 2, 0, 0)[epoch]
        expected += [first + row for row in torch.randperm(20, generator=generator).tolist()]
    order = trainer.order(5, steps, regenerate=regenerate)
    assert order.flatten().tolist() == expected[: steps * OPTIONS.batch_size]
    assert {row // 20 for row in order[:2].flatten().tolist()} == {0}

    fresh = fit(trainer, TrainSpec(5, steps, teacher=TEACHER, regenerate=regenerate))
    assert same(fresh, fit(trainer, TrainSpec(5, steps, teacher=TEACHER, regenerate=regenerate)))
    assert not same(fresh, fit(trainer, TrainSpec(5, steps, teacher=TEACHER)))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("labels", ["on_the_fly", "stored", "hard"])
def test_fresh_images_from_one_slice_are_the_old_ones(device: str, labels: LabelSource):
    def student(regenerate: RegenerationOptions | None) -> ResNet:
        distillation = DistillationOptions(labels=labels, regenerate=regenerate)
        return train_student(
            IMAGES, LABELS, OPTIONS, 3, CLASSES,
            distillation=distillation, steps=6, teacher=TEACHER, device=device,
        )  # fmt: skip

    assert same(student(None), student(RegenerationOptions(every=2)))
    assert not same(student(None), student(RegenerationOptions(slices=2)))


def test_what_has_no_equal_slices_or_no_epochs_is_refused():
    trainer = Trainer(IMAGES, OPTIONS, CLASSES, targets=LABELS)
    with pytest.raises(ValueError, match="60 images do not make 7 equal slices"):
        fit(trainer, TrainSpec(0, 3, regenerate=RegenerationOptions(slices=7)))
    closed = Trainer(IMAGES, ClassifierOptions(architecture="scattering"), CLASSES, targets=LABELS)
    with pytest.raises(UserError, match="has no epochs"):
        fit(closed, TrainSpec(0, regenerate=RegenerationOptions(slices=2)))


def test_a_teacher_on_the_scattering_transform_is_not_compiled():
    teacher = LinearOnFeatures(Scattering(1, 12, 12), CLASSES)
    assert compiled(teacher) is teacher
    assert isinstance(compiled(TEACHER), torch._dynamo.OptimizedModule)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="compiles and captures on a GPU")
def test_a_compiled_student_learns_from_a_teacher_on_the_scattering_transform():
    teacher = LinearOnFeatures(Scattering(1, 12, 12), CLASSES)
    torch.nn.init.normal_(teacher.head.weight)
    # Small steps, and not Muon, which makes steps of one length of gradients that bfloat16 rounds differently.
    plain = OPTIONS.model_copy(update={"optimiser": "adamw", "learning_rate": 1e-3})
    compiles = plain.model_copy(update={"compile": True})
    distillation = DistillationOptions(labels="on_the_fly")
    one, same, other = (
        logits(
            train_student(
                IMAGES, LABELS, recipe, seed, CLASSES,
                distillation=distillation, steps=6, teacher=teacher, device="cuda",
            ),
            IMAGES,
        )
        for recipe, seed in ((plain, 3), (compiles, 3), (plain, 4))
    )  # fmt: skip
    assert (one - same).norm() < 0.2 * (one - other).norm()
