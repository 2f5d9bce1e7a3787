"""One trainer trains many networks, and none of them leaves a trace in the next."""

import pickle

import pytest
import torch
from torch import Tensor

from tckr.classifiers.options import ClassifierOptions
from tckr.classifiers.resnet import ResNet
from tckr.classifiers.train import train
from tckr.classifiers.trainer import Job, Resident, Trainer, train_together
from tckr.errors import UserError

OPTIONS = ClassifierOptions(widths=(8, 16), depth=2, epochs=2, batch_size=16)
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
N, CLASSES = 60, 3


def pool(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (N, 1, 12, 12), generator=generator)
    return images.to(torch.uint8), torch.randint(0, CLASSES, (N,), generator=generator)


IMAGES, LABELS = pool(0)
TEACHER = train(IMAGES, LABELS, OPTIONS, 9, CLASSES, steps=3)
OTHER = train(IMAGES, LABELS, OPTIONS, 8, CLASSES, steps=3)


@pytest.fixture(autouse=True)
def repeatable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)


def same(one: ResNet, other: ResNet) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("device", DEVICES)
def test_a_network_is_the_same_after_others_as_alone(device: str):
    trainer = Trainer(IMAGES, OPTIONS, CLASSES, targets=LABELS, device=device)
    inside = torch.arange(0, N, 2)
    first = trainer.train(1, steps=5)
    part = trainer.train(2, steps=3, inside=inside)
    longer = trainer.train(1, steps=6)
    alone = train(IMAGES[inside], LABELS[inside], OPTIONS, 2, CLASSES, steps=3, device=device)
    assert same(first, trainer.train(1, steps=5))
    assert same(part, alone)
    assert same(part, trainer.train(2, steps=3, inside=inside))
    assert not same(first, longer)


@pytest.mark.parametrize("device", DEVICES)
def test_each_student_has_its_own_teacher(device: str):
    trainer = Trainer(IMAGES, OPTIONS, CLASSES, device=device)
    taught = [trainer.train(1, steps=4, teacher=teacher) for teacher in (TEACHER, OTHER, TEACHER)]
    assert same(taught[0], taught[2])
    assert not same(taught[0], taught[1])
    alone = train(IMAGES, LABELS, OPTIONS, 1, CLASSES, steps=4, teacher=OTHER, device=device)
    assert same(taught[1], alone)


@pytest.mark.parametrize("device", DEVICES)
def test_targets_can_change(device: str):
    soft = torch.rand(N, CLASSES, generator=torch.Generator().manual_seed(0)).softmax(1)
    trainer = Trainer(IMAGES, OPTIONS, CLASSES, targets=LABELS, device=device)
    hard = trainer.train(1, steps=3)
    assert same(hard, trainer.train(1, steps=3, targets=LABELS))
    softer = trainer.train(1, steps=3, targets=soft)
    assert same(softer, train(IMAGES, soft, OPTIONS, 1, CLASSES, steps=3, device=device))
    assert same(hard, trainer.train(1, steps=3))
    assert not same(hard, softer)


@pytest.mark.parametrize("device", DEVICES)
def test_a_network_is_the_same_in_company_as_alone(device: str):
    """Of several pools, recipes of labels and lengths; on a GPU they are replayed side by side."""
    one = Trainer(IMAGES, OPTIONS, CLASSES, targets=LABELS, device=device)
    two = Trainer(pool(3)[0], OPTIONS, CLASSES, device=device)
    soft = torch.rand(N, CLASSES, generator=torch.Generator().manual_seed(0)).softmax(1)
    jobs = [
        (one, Job(1, 5)),
        (two, Job(2, 7, teacher=TEACHER)),
        (one, Job(3, 4, torch.arange(0, N, 2))),
        (two, Job(2, 7, teacher=OTHER)),
        (one, Job(1, 5, targets=soft)),
    ]
    for _ in range(2):  # the second time recorded steps are used again
        together = train_together(jobs)
        for (trainer, job), found in zip(jobs, together, strict=True):
            assert same(found, train_together([(trainer, job)])[0])


@pytest.mark.parametrize("device", DEVICES)
def test_another_pool_takes_the_place(device: str):
    others, classes = pool(4)
    trainer = Trainer(IMAGES, OPTIONS, CLASSES, targets=LABELS, device=device)
    before = trainer.train(1, steps=3)
    trainer.replace(others, classes)
    assert same(
        trainer.train(1, steps=3),
        train(others, classes, OPTIONS, 1, CLASSES, steps=3, device=device),
    )
    trainer.replace(IMAGES, LABELS)
    assert same(trainer.train(1, steps=3), before)
    with pytest.raises(ValueError, match="the pool is"):
        trainer.replace(others[:5])


@pytest.mark.parametrize("taught", [False, True])
def test_the_step_of_a_gpu_is_that_of_a_cpu(taught: bool):
    """Its way of looking everything up on the device, run here kernel by kernel."""
    trainer = Trainer(IMAGES, OPTIONS, CLASSES, targets=LABELS)
    network = ResNet(1, CLASSES, (8, 16), 2, 2)
    targets = None if taught else torch.nn.functional.one_hot(LABELS, CLASSES).float()
    resident = Resident(trainer, network, TEACHER if taught else None, targets, 7)
    for seed, steps, teacher in ((5, 7, TEACHER), (1, 4, OTHER)):
        given = teacher if taught else None
        expected = trainer.train(seed, steps=steps, teacher=given)
        model = trainer.network(seed)
        assert resident.fits(steps, given)
        resident.begin(
            model, trainer.order(seed, steps), trainer.rates(steps), given, targets, seed
        )
        for _ in range(steps):
            resident.advance()
        for name, value in expected.state_dict().items():
            found = resident.model.state_dict()[name]
            torch.testing.assert_close(found, value, rtol=1e-3, atol=1e-4, msg=name)
    assert not resident.fits(8, TEACHER if taught else None)
    assert not resident.fits(4, None if taught else TEACHER)
    assert not resident.fits(4, ResNet(1, CLASSES, (8,), 2))


def test_goes_to_other_processes():
    trainer = Trainer(IMAGES, OPTIONS, CLASSES, targets=LABELS)
    again = pickle.loads(pickle.dumps(trainer))
    assert same(trainer.train(1, steps=2), again.train(1, steps=2))


def test_refuses():
    trainer = Trainer(IMAGES, OPTIONS, CLASSES)
    with pytest.raises(ValueError, match="neither targets nor a teacher"):
        trainer.train(0)
    with pytest.raises(ValueError, match="59"):
        trainer.train(0, teacher=TEACHER, inside=torch.tensor([0, N]))
    with pytest.raises(ValueError, match="59"):
        trainer.train(0, teacher=TEACHER, inside=torch.zeros(0, dtype=torch.int64))
    with pytest.raises(ValueError, match="60 images but 3 targets"):
        trainer.train(0, targets=torch.zeros(3, dtype=torch.int64))


@pytest.mark.parametrize("device", DEVICES)
def test_a_training_that_diverges_is_an_error_that_says_so(device: str):
    wild = OPTIONS.model_copy(update={"learning_rate": 1e30})
    trainer = Trainer(IMAGES, wild, CLASSES, targets=LABELS, device=device)
    with pytest.raises(UserError, match=r"training of the teacher diverged.*learning_rate"):
        trainer.train(0, description="teacher")
