"""The drawing node with a teacher that rejects images: on from where it was killed, the same bytes, one line if it cannot."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import miniatures
from tckr.classifiers.options import ClassifierOptions, DistillationOptions, RegenerationOptions
from tckr.classifiers.predict import soft_labels
from tckr.classifiers.resnet import ResNet
from tckr.datasets.image_table import ImageTableDataset
from tckr.diffusion.options import AdaptationOptions, SamplingOptions
from tckr.diffusion.sampler import Sampler
from tckr.errors import UserError
from tckr.images.tables import SLICE, images_and_labels
from tckr.images.unfinished import Unfinished
from tckr.options import Schedule
from tckr.pipelines.knowledge_recycling.nodes import (
    describe_drawing,
    fitted_on_members,
    generate_images,
    label_images,
)
from tckr.pipelines.student_training.nodes import train_student
from tckr.synthesizers.filtering import DRAW, FilterOptions
from tckr.synthesizers.tckr import TCKR, TckrRecyclingOptions
from tckr.text.options import CaptionOptions

SEED = 3
FACTS = {"n_members": 30, "class_names": ["bag", "boot"], "shape": [1, 16, 16]}
RECIPE = {
    "classifier": ClassifierOptions(widths=(8,), batch_size=8).model_dump(mode="json"),
    "classes": ["bag", "boot"],
    "steps": 4,
    "validation": {"images": 30, "right": 27, "largest": 15},
}


@pytest.fixture(autouse=True)
def _scratch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TCKR_SCRATCH", str(tmp_path / "scratch"))


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    return str(miniatures.save_generator(tmp_path_factory.mktemp("models") / "generator"))


@pytest.fixture
def arm(generator: str, tmp_path: Path) -> Callable[..., TCKR]:
    """TCKR that draws from class names and the generator as it was downloaded: nothing has to be fitted."""

    def make(checkpoints: str | None = "drawing", **options: Any) -> TCKR:
        recycling = TckrRecyclingOptions(
            generator="base",
            prompts="class_names",
            sampling=SamplingOptions(steps=2, guidance_scale=1.0, batch_size=4),
            checkpoints=checkpoints and str(tmp_path / checkpoints),
            **options,
        )
        return TCKR(
            captioning=CaptionOptions(captioner="never loaded"),
            generator_adaptation=AdaptationOptions(
                generator=generator, schedule=Schedule(steps=1, batch_size=1, learning_rate=1e-3)
            ),
            knowledge_recycling=recycling,
        )

    return make


@pytest.fixture
def teacher(arm: Callable[..., TCKR]) -> ResNet:
    """A network with random weights that calls half of what is drawn a bag, and half a boot."""
    torch.manual_seed(1)
    network = ResNet(1, 2, (8,), 1).eval()
    with torch.no_grad():
        network.head.weight.mul_(1000)
        drawn = fitted_on_members(arm(), {}, FACTS).sample(60, SEED).images
        logits = network(drawn.float() / 255)
        network.head.bias.sub_(logits.median(0).values)
    return network


def half(**more: Any) -> dict[str, Any]:
    return {"filter": FilterOptions(threshold=0.5, max_draws=50), **more}


def test_what_is_drawn_is_what_the_teacher_recognises(arm, teacher) -> None:
    table = generate_images(arm(**half()), {}, FACTS, SEED, teacher)
    images, labels = images_and_labels(table)
    assert torch.bincount(labels).tolist() == [15, 15]
    found = soft_labels(teacher, images)
    assert torch.equal(found.argmax(1), labels)
    plain = generate_images(arm(checkpoints=None), {}, FACTS, SEED, teacher)
    accepted = soft_labels(teacher, images_and_labels(plain)[0]).argmax(1) == labels
    assert 3 < int(accepted.sum()) < 27
    assert (table["image_id"] == plain["image_id"])[accepted.numpy()].all()
    assert DRAW not in plain
    # A shadow walks the same way: its sample is the node's, to the bit.
    sampled = fitted_on_members(arm(**half()), {}, FACTS, teacher).sample(30, SEED)
    assert torch.equal(sampled.images, images)
    assert torch.equal(sampled.labels, labels)


@pytest.mark.parametrize("batch", [2, 8, 10])
def test_a_killed_filtered_drawing_goes_on_and_gives_the_same_bytes(
    batch: int, arm, teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while the plan is drawn, at its end, and while what was rejected is drawn again."""
    numbers: list[int] = []
    original = Sampler.__call__

    def draws(self: Any, wanted: range) -> Any:
        numbers.extend(wanted)
        return original(self, wanted)

    monkeypatch.setattr(Sampler, "__call__", draws)
    whole = generate_images(arm(checkpoints=None, **half()), {}, FACTS, SEED, teacher)
    once = set(numbers)
    append, kept = Unfinished.append, []

    def killed(self: Unfinished, *arguments: Any, **named: Any) -> None:
        append(self, *arguments, **named)
        kept.append(len(self))
        if len(kept) == batch:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Unfinished, "append", killed)
        with pytest.raises(KeyboardInterrupt):
            generate_images(arm(**half()), {}, FACTS, SEED, teacher)
    numbers.clear()
    again = generate_images(arm(**half()), {}, FACTS, SEED, teacher)
    pd.testing.assert_frame_equal(again, whole)
    assert min(numbers) >= kept[-1] - 3  # what was there is not drawn again, but for its batch
    assert set(numbers) <= once
    (folder,) = (tmp_path / "drawing").iterdir()
    ImageTableDataset(filepath=str(tmp_path / "set")).save(again)
    assert not folder.exists()  # the rejected images neither
    loaded = ImageTableDataset(filepath=str(tmp_path / "set")).load()
    assert loaded[DRAW].tolist() == whole[DRAW].tolist()


def test_another_teacher_or_threshold_begins_anew(arm, teacher, tmp_path: Path) -> None:
    generate_images(arm(**half()), {}, FACTS, SEED, teacher)
    generate_images(arm(), {}, FACTS, SEED, teacher)
    lower = FilterOptions(threshold=0.4, max_draws=50)
    generate_images(arm(filter=lower), {}, FACTS, SEED, teacher)
    other = ResNet(1, 2, (8,), 1).eval()
    other.load_state_dict(teacher.state_dict())
    other.head.bias.data += 0.01
    generate_images(arm(**half()), {}, FACTS, SEED, other)
    assert len(list((tmp_path / "drawing").iterdir())) == 4


def test_a_class_that_the_teacher_never_recognises_ends_in_one_line(arm, teacher) -> None:
    teacher.head.bias.data[1] -= 1e6
    with pytest.raises(UserError, match=r"class boot in 0 of 45 images .* \(100.0 % rejected\)"):
        generate_images(
            arm(filter=FilterOptions(threshold=0, max_draws=3)), {}, FACTS, SEED, teacher
        )


def test_what_was_on_is_said_in_report_and_card(arm, teacher, tmp_path: Path) -> None:
    filtering = arm(**half(slices=3))
    table = generate_images(filtering, {}, FACTS, SEED, teacher)
    assert len(table) == 90
    assert table[SLICE].tolist() == [0] * 30 + [1] * 30 + [2] * 30
    for _, part in table.groupby(SLICE):
        assert abs((part["label"] == 0).sum() - 15) <= 1
    report = describe_drawing(filtering, {}, table)
    assert [line.split(" ")[:4] for line in report["described"]] == [
        ["Images", "in", "which", "the"],
        ["The", "set", "has", "3"],
        ["This", "is", "a", "control:"],
        ["The", "teacher", "rejected", report["described"][3].split(" ")[3]],
    ]
    figures = report["figures"]
    assert set(figures) == {"rejected", "rejected.bag", "rejected.boot"}
    needed = table.groupby("label")[DRAW].max() + 1
    assert figures["rejected"] == pytest.approx(100 * (1 - 90 / needed.sum()))
    assert 10 < figures["rejected"] < 90
    plain = describe_drawing(arm(), {}, table.drop(columns=DRAW))
    assert plain == {"described": [report["described"][2]], "figures": {}}

    recycled, _ = label_images(filtering, {}, table, teacher, RECIPE)
    ImageTableDataset(filepath=str(tmp_path / "recycled")).save(recycled)
    card = (tmp_path / "recycled" / "README.md").read_text()
    assert "were drawn again" in card
    assert "3 slices" in card
    assert f"{figures['rejected']:.1f}" not in card


def test_a_student_sees_slice_after_slice_and_its_recipe_says_so(arm, teacher) -> None:
    sliced = arm(slices=3)
    table = generate_images(sliced, {}, FACTS, SEED)
    recycled, _ = label_images(sliced, {}, table, teacher, RECIPE)
    every = DistillationOptions(regenerate=RegenerationOptions(every=1))
    fresh, recipe = train_student(recycled, RECIPE, every, SEED, teacher)
    assert recipe["distillation"]["regenerate"] == {"every": 1, "slices": 3}
    at_once, _ = train_student(recycled, RECIPE, DistillationOptions(), SEED, teacher)
    assert not torch.equal(fresh.head.weight, at_once.head.weight)
    # 4 steps of 8 images are a pass over the 30 of the first slice and two of the second: the last is never read.
    others = recycled.assign(label=1 - recycled["label"])
    first = pd.concat([recycled[recycled[SLICE] < 2], others[others[SLICE] == 2]])
    same, _ = train_student(
        first, RECIPE, every.model_copy(update={"labels": "hard"}), SEED, teacher
    )
    plain, _ = train_student(
        recycled, RECIPE, every.model_copy(update={"labels": "hard"}), SEED, teacher
    )
    assert torch.equal(same.head.weight, plain.head.weight)
    whole = recycled.drop(columns=SLICE)
    with pytest.raises(UserError, match="has one slice alone"):
        train_student(whole, RECIPE, every, SEED, teacher)
    assert np.unique(recycled["image_id"]).size == len(recycled)
