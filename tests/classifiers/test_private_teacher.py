"""The private teacher: plain training without noise, a bounded statistic, one folder that can be handed out."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from charged import charged
from tckr.classifiers import models
from tckr.classifiers.features import ClipFeatures, LinearOnFeatures, NetworkFeatures, Scattering
from tckr.classifiers.group_norm import GroupNormResNet
from tckr.classifiers.private_options import PrivateTeacherOptions
from tckr.classifiers.private_teacher import (
    clipped_gradient_sum,
    teacher_plan,
    train_head,
    train_private_teacher,
)
from tckr.classifiers.resnet import ResNet
from tckr.dp import Noise, recorder
from tckr.errors import UserError
from tckr.options import PrivateSchedule

ENDLESS = 1e12
LABELS = torch.arange(12) % 3


def pictures(count: int = 12) -> Tensor:
    """Bright at the top, in the middle or below, by class."""
    images = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(0)) / 4
    for image, label in zip(images, LABELS, strict=False):
        image[:, 3 * label : 3 * label + 2] += 0.7
    return images


def teach(
    options: PrivateTeacherOptions, multiplier: float, images: Tensor | None = None, **more: object
) -> nn.Module:
    images = pictures() if images is None else images
    entry = charged(teacher_plan(options, 1), multiplier)
    return train_private_teacher(
        images, LABELS[: len(images)], 3, options, entry, Noise(seed=0), **more
    )  # type: ignore[arg-type]


def test_without_noise_and_clipping_it_is_gradient_descent() -> None:
    options = PrivateTeacherOptions(
        steps=20, learning_rate=0.01, max_grad_norm=ENDLESS, averaging=0
    )
    features = torch.randn(12, 7)
    ours = train_head(
        features, LABELS, 3, options, charged(teacher_plan(options, 1), 0.0), Noise(seed=0)
    )
    weight = torch.zeros(3, 7, requires_grad=True)
    optimizer = torch.optim.SGD([weight], 0.01, 0.9)
    for _ in range(20):
        optimizer.zero_grad()
        nn.functional.cross_entropy(features @ weight.T, LABELS).backward()
        optimizer.step()
    torch.testing.assert_close(ours.float(), weight.detach(), rtol=1e-4, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.01, 1.0, 30.0]))
def test_an_image_more_changes_the_sum_by_the_clipping_norm_at_most(seed: int, clip: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    features = 10 * torch.randn(9, 5, generator=draw)
    features[0, 0] = torch.nan if seed % 3 == 0 else 1.0
    weight = torch.randn(3, 5, generator=draw, dtype=torch.float64)
    labels = LABELS[:9]
    whole = clipped_gradient_sum(weight, features, labels, clip)
    for image in range(9):
        kept = torch.arange(9) != image
        less = clipped_gradient_sum(weight, features[kept], labels[kept], clip)
        assert float((whole - less).norm()) <= clip


def test_recorded_on_neighbouring_sets() -> None:
    options = PrivateTeacherOptions(steps=4)
    with recorder.recording() as first:
        teach(options, 2.0, count=12)
    with recorder.recording(replay=first) as second:
        teach(options, 2.0, pictures()[:11], count=12)
    assert 0 < recorder.check_sensitivity(first, second)["teacher"] <= 1
    assert len(first) == 4


def test_it_learns_under_some_noise_and_not_under_much() -> None:
    images = pictures()
    options = PrivateTeacherOptions(steps=60)
    assert (teach(options, 1.0)(images).argmax(1) == LABELS).all()
    right = (teach(options, 1000.0)(images).argmax(1) == LABELS).float().mean()
    assert right < 0.9


def test_features_on_disk_are_the_same() -> None:
    options = PrivateTeacherOptions(steps=5)
    wanted = teach(options, 1.0)(pictures())
    found = teach(options.model_copy(update={"cache_gib": 0.0}), 1.0)(pictures())
    torch.testing.assert_close(found, wanted)


def test_whole_numbers_and_fractions_are_the_same_images() -> None:
    whole = (pictures() * 255).round().to(torch.uint8)
    teacher = teach(PrivateTeacherOptions(steps=5), 1.0, whole)
    torch.testing.assert_close(teacher(whole), teacher(whole / 255))


def body(kind: str) -> Scattering | NetworkFeatures | ClipFeatures:
    if kind == "scattering":
        return Scattering(1, 8, 8)
    if kind == "network":
        return NetworkFeatures(ResNet(1, 3, (4, 8), 1).eval())
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=8, intermediate_size=16, projection_dim=6, num_hidden_layers=1, num_attention_heads=2,
        image_size=16, patch_size=8,
    )  # fmt: skip
    return ClipFeatures(CLIPVisionModelWithProjection(config))


@pytest.mark.parametrize("kind", ["scattering", "network", "clip"])
def test_it_can_be_handed_out_as_one_folder(kind: str, tmp_path: Path) -> None:
    teacher = LinearOnFeatures(body(kind), 3).eval()
    nn.init.normal_(teacher.head.weight)
    models.save(teacher, tmp_path / "teacher")
    again = models.load(tmp_path / "teacher")
    torch.testing.assert_close(again(pictures()), teacher(pictures()))
    assert again.config == teacher.config


def test_a_network_with_group_norm_can_be_stored(tmp_path: Path) -> None:
    network = GroupNormResNet(1, 3, (4, 8), 1).eval()
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())
    models.save(network, tmp_path / "network")
    again = models.load(tmp_path / "network")
    assert type(again) is GroupNormResNet
    torch.testing.assert_close(again(pictures()), network(pictures()))


def dp_sgd(**changes: object) -> PrivateTeacherOptions:
    usual: dict[str, object] = {"steps": 3, "sampling_rate": 1.0, "learning_rate": 0.1, "max_grad_norm": 0.5, "passes": 2, "optimiser": "sgd", "micro_batch": 5}  # fmt: skip
    return PrivateTeacherOptions(kind="dp_sgd", dp_sgd=PrivateSchedule(**(usual | changes)))  # type: ignore[arg-type]


@pytest.mark.parametrize("network", [GroupNormResNet(1, 5, (4, 8), 2), ResNet(1, 5, (4, 8), 2)])
def test_fine_tuning(network: ResNet) -> None:
    before = {name: each.clone() for name, each in network.state_dict().items()}
    with recorder.recording() as first:
        teacher = teach(dp_sgd(), 1.0, network=network)
    with recorder.recording(replay=first) as second:
        teach(dp_sgd(), 1.0, pictures()[:11], network=network, count=12)
    assert teacher(pictures()).shape == (12, 3)
    assert all(torch.equal(each, before[name]) for name, each in network.state_dict().items())
    assert len(first) == len(second) == 3
    with pytest.raises(ValueError, match="needs a network"):
        teach(dp_sgd(), 1.0)


def test_fine_tuning_learns() -> None:
    torch.manual_seed(0)
    options = dp_sgd(steps=40, max_grad_norm=1.0)
    teacher = teach(options, 0.0, network=GroupNormResNet(1, 5, (8, 16), 1))
    assert (teacher(pictures()).argmax(1) == LABELS).float().mean() > 0.9


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="need an encoder"):
        PrivateTeacherOptions(features="clip")
    with pytest.raises(ValueError, match="need a network"):
        teach(PrivateTeacherOptions(features="network"), 1.0)
    options = PrivateTeacherOptions(steps=5)
    entry = charged(teacher_plan(options, 1), 1.0)
    other = options.model_copy(update={"steps": 7})
    with pytest.raises(UserError, match="parameters say 7"):
        train_private_teacher(pictures(), LABELS, 3, other, entry, Noise(seed=0))
