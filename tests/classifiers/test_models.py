"""A classifier survives the disk, and anything else is refused in one line."""

import json
from pathlib import Path

import pytest
import torch

from tckr.classifiers.models import load, save
from tckr.classifiers.predict import accuracy, logits, soft_labels
from tckr.classifiers.resnet import ResNet
from tckr.errors import UserError

IMAGES = torch.randint(0, 256, (7, 3, 16, 16), generator=torch.Generator().manual_seed(0)).byte()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(ResNet(3, 4, (8, 16), 2), tmp_path / "model")
    return tmp_path / "model"


def test_round_trip(tmp_path: Path):
    model = ResNet(3, 4, (8, 16), 2)
    save(model, tmp_path / "deep" / "model")
    again = load(tmp_path / "deep" / "model")
    assert torch.equal(logits(model, IMAGES), logits(again, IMAGES))
    assert not again.training


def test_depth_survives_and_is_one_where_an_older_config_has_none(tmp_path: Path):
    deep = ResNet(3, 4, (8, 16), 2, depth=2)
    save(deep, tmp_path / "deep")
    assert torch.equal(logits(load(tmp_path / "deep"), IMAGES), logits(deep, IMAGES))
    shallow = ResNet(3, 4, (8, 16), 2)
    save(shallow, tmp_path / "old")
    config = json.loads((tmp_path / "old" / "config.json").read_text())
    del config["depth"]
    (tmp_path / "old" / "config.json").write_text(json.dumps(config))
    assert load(tmp_path / "old").depth == 1
    assert torch.equal(logits(load(tmp_path / "old"), IMAGES), logits(shallow, IMAGES))


def test_replaces_an_older_one_and_leaves_nothing_behind(folder: Path):
    newer = ResNet(1, 2, (8,), 2)
    save(newer, folder)
    assert load(folder).config == newer.config
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_file(folder: Path, name: str):
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"{name} is missing"):
        load(folder)


@pytest.mark.parametrize(
    "damage",
    [
        lambda f: (f / "config.json").write_text("{"),
        lambda f: (f / "config.json").write_text("[]"),
        lambda f: (f / "config.json").write_text(json.dumps({"class": "transformers.BlipModel"})),
        lambda f: edit(f, widths=[8, 32]),
        lambda f: edit(f, depth=2),
        lambda f: edit(f, extra=1),
        lambda f: edit(f, widths=3),
        lambda f: (f / "model.safetensors").write_bytes(b"nothing of the kind"),
    ],
)
def test_damaged_or_other_folder(folder: Path, damage):
    damage(folder)
    with pytest.raises(UserError) as caught:
        load(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def edit(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def test_soft_labels_and_accuracy():
    model = ResNet(3, 4, (8,), 2)
    soft = soft_labels(model, IMAGES, batch_size=3)
    torch.testing.assert_close(soft.sum(1), torch.ones(7))
    figures = accuracy(torch.eye(3), torch.tensor([0, 1, 1]))
    assert figures["accuracy"] == pytest.approx(200 / 3)
    assert figures["per_class"] == [100, 50, None]
