"""The drawing node: to disk as it comes, on from where it was killed, nothing left behind once it is saved."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from kedro.io.core import Version

import miniatures
from tckr.classifiers import distillation
from tckr.classifiers.fixed_views import labels_of_views
from tckr.classifiers.options import (
    AugmentationOptions,
    ClassifierOptions,
    DistillationOptions,
    SoftLabelOptions,
)
from tckr.classifiers.predict import soft_labels
from tckr.classifiers.resnet import ResNet
from tckr.classifiers.soft_labels import soften
from tckr.datasets.image_table import ImageTableDataset
from tckr.diffusion.options import SamplingOptions
from tckr.diffusion.sampler import Sampler
from tckr.engine.seeds import derive
from tckr.images.tables import DESCRIBED, VIEWS
from tckr.images.tensors import to_png, to_tensor
from tckr.images.unfinished import INDEX, Unfinished, forget
from tckr.pipelines.ingestion.nodes import state_public_facts
from tckr.pipelines.knowledge_recycling.nodes import generate_images, label_images
from tckr.pipelines.student_training.nodes import train_student
from tckr.synthesizers.unadapted import Unadapted, UnadaptedRecyclingOptions

SEED = 3


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    return str(miniatures.save_generator(tmp_path_factory.mktemp("models") / "generator"))


@pytest.fixture(autouse=True)
def _scratch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TCKR_SCRATCH", str(tmp_path / "scratch"))


@pytest.fixture
def images() -> pd.DataFrame:
    pixels = torch.randint(0, 256, (20, 1, 16, 16), dtype=torch.uint8)
    labels = [0, 1] * 10
    names = [("bag", "boot")[label] for label in labels]
    columns = {"split": "members", "label": labels, "class_name": names, "image": to_png(pixels)}
    return pd.DataFrame({"image_id": [f"{i:016x}" for i in range(20)], **columns})


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the images that the generator draws."""
    numbers: list[int] = []
    original = Sampler.__call__

    def draws(self: Any, wanted: range) -> Any:
        numbers.extend(wanted)
        return original(self, wanted)

    monkeypatch.setattr(Sampler, "__call__", draws)
    return numbers


@pytest.fixture
def arm(generator: str, tmp_path: Path) -> Callable[..., Unadapted]:
    def make(batch_size: int = 4, checkpoints: str | None = "drawing", **options: Any) -> Unadapted:
        settings = SamplingOptions(steps=2, guidance_scale=1.0, batch_size=batch_size)
        recycling = UnadaptedRecyclingOptions(
            generator=generator,
            sampling=settings,
            checkpoints=checkpoints and str(tmp_path / checkpoints),
            **options,
        )
        return Unadapted(knowledge_recycling=recycling)

    return make


def kill_at(monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    """End the process, as far as Python can tell, after so many batches were kept."""
    original, kept = Unfinished.append, []

    def append(self: Unfinished, *arguments: Any, **named: Any) -> None:
        original(self, *arguments, **named)
        kept.append(1)
        if len(kept) == batch:
            raise KeyboardInterrupt

    monkeypatch.setattr(Unfinished, "append", append)


def test_a_killed_drawing_goes_on_and_gives_the_same_bytes(
    arm, images, drawn, tmp_path, monkeypatch
) -> None:
    whole = generate_images(arm(checkpoints=None), {}, state_public_facts(images), SEED)
    assert whole["image"].dtype == "encoded image"
    assert drawn == list(range(20))
    drawn.clear()
    with monkeypatch.context() as patched:
        kill_at(patched, batch=3)
        with pytest.raises(KeyboardInterrupt):
            generate_images(arm(), {}, state_public_facts(images), SEED)
    drawn.clear()
    again = generate_images(arm(), {}, state_public_facts(images), SEED)
    assert drawn == list(range(12, 20))
    pd.testing.assert_frame_equal(again, whole)

    (folder,) = (tmp_path / "drawing").iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}
    saved = []
    for number, table in enumerate((whole, again)):
        dataset = ImageTableDataset(
            filepath=str(tmp_path / "set"), version=Version(None, f"version {number}")
        )
        assert folder.exists()
        dataset.save(table)
        (file,) = (dataset._get_load_path() / "data").iterdir()
        saved.append((file.name, file.read_bytes()))
    assert not folder.exists()
    assert saved[0] == saved[1]


def test_what_changes_an_image_begins_anew_and_what_does_not_goes_on(
    arm, images, drawn, tmp_path, monkeypatch
) -> None:
    with monkeypatch.context() as patched:
        kill_at(patched, batch=3)
        with pytest.raises(KeyboardInterrupt):
            generate_images(arm(), {}, state_public_facts(images), SEED)
    drawn.clear()
    generate_images(arm(), {}, state_public_facts(images), SEED + 1)
    assert len(drawn) == 20
    drawn.clear()
    table = generate_images(
        arm(batch_size=5, release_prompts=True), {}, state_public_facts(images), SEED
    )
    assert drawn == list(range(10, 20))  # 10 and 11 again, in the batch that they belong to
    assert len(table) == 20
    assert len(list((tmp_path / "drawing").iterdir())) == 2


def test_two_runs_of_the_same_work_do_not_touch_each_other(tmp_path: Path) -> None:
    first = Unfinished(tmp_path / "work")
    first.append(["a" * 16], [b"first"])
    second = Unfinished(tmp_path / "work")
    assert second.folder != first.folder
    assert len(second) == 0
    second.append(["b" * 16], [b"second"])
    forget(second.folder)
    assert first.images.tolist() == [b"first"]
    del second
    assert [folder.name for folder in tmp_path.iterdir()] == ["work"]


def test_what_was_half_written_is_cut_off(tmp_path: Path) -> None:
    def keep(*images: bytes) -> int:
        work = Unfinished(tmp_path / "work")
        before = len(work)
        work.append([f"{len(image):016d}" for image in images], images)
        return before

    assert keep(b"one", b"three") == 0
    folder = tmp_path / "work"
    with (folder / "images.bin").open("ab") as file:
        file.write(b"torn")
    assert keep(b"seven..") == 2
    with (folder / INDEX).open("ab") as file:
        file.write(b"torn")
    assert keep() == 3
    with (folder / "images.bin").open("r+b") as file:
        file.seek(4)
        file.write(b"X")  # a block that never reached the disk
    work = Unfinished(folder)
    assert work.images.tolist() == [b"one"]
    assert work.image_ids == ["0000000000000003"]
    work.append(["c" * 16], [b"next"])
    assert work.images.tolist() == [b"one", b"next"]
    (folder / "of somebody else").touch()
    forget(folder)
    assert [file.name for file in folder.iterdir()] == ["of somebody else"]


def test_soft_labels_do_not_depend_on_how_many_are_decoded_at_once(
    arm, images, monkeypatch
) -> None:
    pixels = torch.randint(0, 256, (2100, 1, 16, 16), dtype=torch.uint8)
    table = pd.DataFrame(
        {
            "image": to_png(pixels),
            "image_id": [str(row) for row in range(len(pixels))],
            "label": np.arange(len(pixels)) % 3,
            "class_name": np.array(["bag", "boot", "coat"])[np.arange(len(pixels)) % 3],
            "prompt": "bag",
        }
    )
    teacher = ResNet(1, 3, (8, 16), 1).eval()
    labelled, _ = label_images(arm(), {}, table, teacher)
    assert "prompt" not in labelled
    expected = soft_labels(teacher, to_tensor(table["image"]))
    rows = torch.from_numpy(np.stack(labelled["soft_label"]))
    assert torch.equal(rows, expected)


def test_labels_of_several_views_go_with_the_set_and_teach_the_student(arm) -> None:
    pixels = torch.randint(0, 256, (30, 1, 16, 16), dtype=torch.uint8)
    table = pd.DataFrame(
        {
            "image": to_png(pixels),
            "image_id": [str(row) for row in range(len(pixels))],
            "label": np.arange(len(pixels)) % 3,
            "class_name": np.array(["bag", "boot", "coat"])[np.arange(len(pixels)) % 3],
            "prompt": "bag",
        }
    )
    teacher = ResNet(1, 3, (8, 16), 1).eval()
    recipe = ClassifierOptions(widths=(8,), batch_size=8, augmentation=AugmentationOptions(shift=2))
    teacher_recipe = {
        "classifier": recipe.model_dump(mode="json"), "classes": ["bag", "boot", "coat"], "steps": 2,
        "validation": {"images": 30, "right": 27, "largest": 10},
    }  # fmt: skip
    labelled, _ = label_images(arm(stored_views=4), {}, table, teacher, teacher_recipe)
    expected = labels_of_views(teacher, pixels, 4, recipe.augmentation)
    rows = np.array([np.stack(row) for row in labelled["soft_labels"]])
    assert np.allclose(rows, expected, atol=1e-6)
    assert len(labelled.attrs[VIEWS]) == 4
    stored = DistillationOptions(labels="stored")
    student, students_recipe = train_student(labelled, teacher_recipe, stored, 0, teacher)
    assert students_recipe["distillation"]["views"] == 4  # which the audit repeats
    alone = DistillationOptions(labels="stored", views=4)
    same = distillation.train_student(
        pixels, torch.zeros(30, dtype=torch.int64), recipe, derive(0, "student"), 3,
        distillation=alone, steps=2, soft=expected,
    )  # fmt: skip
    assert torch.allclose(student.head.weight, same.head.weight, atol=1e-4)


def test_the_stored_labels_say_as_much_as_the_recipe_lets_them(arm) -> None:
    pixels = torch.randint(0, 256, (30, 1, 16, 16), dtype=torch.uint8)
    table = pd.DataFrame(
        {
            "image": to_png(pixels),
            "image_id": [str(row) for row in range(len(pixels))],
            "label": np.arange(len(pixels)) % 3,
            "class_name": np.array(["bag", "boot", "coat"])[np.arange(len(pixels)) % 3],
            "prompt": "bag",
        }
    )
    teacher = ResNet(1, 3, (8, 16), 1).eval()
    told = SoftLabelOptions(temperature=0.25, top_k=2, confidence=0.6)
    recipe = ClassifierOptions(widths=(8,), batch_size=8, soft_labels=told)
    teacher_recipe = {
        "classifier": recipe.model_dump(mode="json"), "classes": ["bag", "boot", "coat"], "steps": 2,
        "validation": {"images": 30, "right": 27, "largest": 10},
    }  # fmt: skip
    labelled, _ = label_images(arm(stored_views=2), {}, table, teacher, teacher_recipe)
    one = torch.from_numpy(np.stack(labelled["soft_label"]))
    views = torch.from_numpy(np.array([np.stack(row) for row in labelled["soft_labels"]]))
    assert torch.allclose(one, soften(soft_labels(teacher, pixels), told), atol=1e-6)
    said = labels_of_views(teacher, pixels, 2, recipe.augmentation)
    assert torch.allclose(views, soften(said, told), atol=1e-6)
    assert one.dtype == torch.float32
    assert told.described() in labelled.attrs[DESCRIBED]  # and so in the card
    _, students_recipe = train_student(
        labelled, teacher_recipe, DistillationOptions(labels="stored"), 0, teacher
    )
    assert students_recipe["classifier"]["soft_labels"] == told.model_dump(mode="json")
