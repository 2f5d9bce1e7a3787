"""Image classifiers of transformers stand in for our small network."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForImageClassification,
    BertConfig,
    BertModel,
    ConvNextConfig,
    ConvNextForImageClassification,
    PreTrainedModel,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
    ViTModel,
)

from tckr.classifiers import models as storage
from tckr.classifiers.hub import HubClassifier
from tckr.classifiers.models import build
from tckr.classifiers.optimizers import build_optimizer
from tckr.classifiers.options import ClassifierOptions
from tckr.classifiers.predict import logits
from tckr.classifiers.resnet import ResNet
from tckr.classifiers.trainer import Trainer, TrainSpec
from tckr.errors import UserError

IMAGES = torch.randint(0, 256, (5, 1, 20, 20), generator=torch.Generator().manual_seed(0)).byte()


def vit() -> ViTConfig:
    return ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=8,
        num_labels=7,
    )  # fmt: skip


def models() -> dict[str, PreTrainedModel]:
    convnext = ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, image_size=32)
    resnet = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    return {
        "vit": ViTForImageClassification(vit()),
        "convnext": ConvNextForImageClassification(convnext),
        "resnet": ResNetForImageClassification(resnet),
    }


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("classifiers")
    for name, model in models().items():
        model.save_pretrained(folder / name)
    ViTImageProcessorPil(
        size={"height": 32, "width": 32}, image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6]
    ).save_pretrained(folder / "vit")
    return {path.name: path for path in folder.iterdir()}


def options(folder: Path | str, **more: Any) -> ClassifierOptions:
    return ClassifierOptions(architecture=str(folder), optimiser="adamw", **more)


def seeded(chosen: ClassifierOptions, channels: int = 1, n_classes: int = 3) -> Any:
    torch.manual_seed(0)
    return build(chosen, channels, n_classes, 20)


@pytest.mark.parametrize("name", ["vit", "convnext", "resnet"])
@pytest.mark.parametrize("pretrained", [False, True])
def test_any_of_them_is_built_stored_and_copied(
    name: str, pretrained: bool, folders: dict[str, Path], tmp_path: Path
) -> None:
    model = seeded(options(folders[name], pretrained=pretrained))
    expected = logits(model, IMAGES)
    assert expected.shape == (5, 3)
    assert model.side == (224 if name == "resnet" else 32)
    again = seeded(options(folders[name], pretrained=pretrained))
    assert torch.equal(logits(again, IMAGES), expected)
    storage.save(model, tmp_path / "saved")
    loaded = storage.load(tmp_path / "saved")
    assert torch.equal(logits(loaded, IMAGES), expected)
    assert not loaded.training
    assert loaded.config == model.config == copy.deepcopy(model).config
    assert model.config != seeded(options(folders[name]), n_classes=4).config
    plain = AutoModelForImageClassification.from_pretrained(tmp_path / "saved")
    assert plain.config.num_labels == 3


def test_pretrained_keeps_the_body_and_renews_the_head(folders: dict[str, Path]) -> None:
    stored = ViTForImageClassification.from_pretrained(folders["vit"])
    kept = seeded(options(folders["vit"], pretrained=True)).network
    fresh = seeded(options(folders["vit"])).network
    name = "vit.embeddings.cls_token"
    weight = dict(stored.named_parameters())[name]
    assert torch.equal(dict(kept.named_parameters())[name], weight)
    assert not torch.equal(dict(fresh.named_parameters())[name], weight)
    assert kept.classifier.weight.shape == (3, 16)


def test_images_are_resized_and_normalised_as_the_processor_does(folders: dict[str, Path]) -> None:
    model = seeded(options(folders["vit"]))
    read: list[torch.Tensor] = []
    model.network.register_forward_pre_hook(
        lambda _, __, inputs: read.append(inputs["pixel_values"]), with_kwargs=True
    )
    logits(model, IMAGES)
    pictures = [image.expand(3, -1, -1).permute(1, 2, 0).numpy() for image in IMAGES]
    processor = ViTImageProcessorPil.from_pretrained(folders["vit"], resample=3)
    expected = processor(images=pictures, return_tensors="pt").pixel_values
    assert read[0].shape == (5, 3, 32, 32)
    # Pillow clips and rounds after each axis.
    assert (read[0] - expected).abs().mean() < 1 / 255 / 0.4


@pytest.mark.parametrize("name", ["vit", "convnext"])
def test_it_learns_with_adamw(name: str, folders: dict[str, Path]) -> None:
    chosen = options(folders[name], learning_rate=3e-3, weight_decay=5e-5)
    model = seeded(chosen, n_classes=2).train()
    optimizer = build_optimizer(model, chosen, chosen.learning_rate)
    labels = torch.arange(32) % 2
    images = 0.3 * torch.rand(32, 1, 20, 20) + 0.5 * labels.view(-1, 1, 1, 1)
    for _ in range(40):
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1


def test_what_does_not_fit_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="`hf download nobody/nothing-of-that-name"):
        seeded(options("nobody/nothing-of-that-name"))
    BertModel(
        BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=9)
    ).save_pretrained(tmp_path / "bert")
    with pytest.raises(UserError, match=r"holds bert.*classifier\.architecture"):
        seeded(options(tmp_path / "bert"))
    (tmp_path / "bare").mkdir()
    vit().save_pretrained(tmp_path / "bare")
    assert isinstance(seeded(options(tmp_path / "bare")), HubClassifier)
    with pytest.raises(UserError, match="could not be loaded"):
        seeded(options(tmp_path / "bare", pretrained=True))
    deeper = vit()
    deeper.num_hidden_layers = 2
    ViTModel(vit()).save_pretrained(tmp_path / "short")
    deeper.save_pretrained(tmp_path / "short")
    with pytest.raises(UserError, match="lacks 16 weights"):
        seeded(options(tmp_path / "short", pretrained=True))


def test_a_body_without_a_head_will_do(tmp_path: Path) -> None:
    ViTModel(vit(), add_pooling_layer=False).save_pretrained(tmp_path)
    assert logits(seeded(options(tmp_path, pretrained=True)), IMAGES).shape == (5, 3)


@pytest.mark.parametrize(
    "damage",
    [
        lambda f: (f / "classifier.json").write_text("{"),
        lambda f: (f / "classifier.json").write_text('{"class": "other"}'),
        lambda f: (f / "model.safetensors").write_bytes(b"nothing of the kind"),
        lambda f: (f / "model.safetensors").unlink(),
    ],
)
def test_a_damaged_folder(damage: Any, folders: dict[str, Path], tmp_path: Path) -> None:
    storage.save(seeded(options(folders["vit"])), tmp_path / "saved")
    damage(tmp_path / "saved")
    with pytest.raises(UserError) as caught:
        storage.load(tmp_path / "saved")
    assert str(tmp_path / "saved") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_our_own_network_is_the_default() -> None:
    model = seeded(ClassifierOptions())
    assert isinstance(model, ResNet)
    assert model.config["stride"] == 2
    for wrong in ({"architecture": "a/b"}, {"pretrained": True}):
        with pytest.raises(ValueError, match="architecture resnet"):
            ClassifierOptions(**wrong)


def test_dropout_follows_the_seed(tmp_path: Path) -> None:
    config = vit()
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.1
    ViTForImageClassification(config).save_pretrained(tmp_path)
    chosen = options(tmp_path, learning_rate=3e-3, batch_size=4)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    trainer = Trainer(IMAGES, chosen, 3, targets=torch.arange(5) % 3, device=device)
    before = torch.get_rng_state()
    alone = logits(trainer.fit([TrainSpec(1, 4)])[0], IMAGES)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(123)  # the state outside must not matter, nor what is trained beside it
    beside = trainer.fit([TrainSpec(2, 3), TrainSpec(1, 4), TrainSpec(3, 5)], side_by_side=3)
    assert torch.equal(logits(beside[1], IMAGES), alone)
