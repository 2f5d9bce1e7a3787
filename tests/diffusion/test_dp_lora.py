"""Private adaptation: its gradients are those of micro-batches of one, and one image is one clipped gradient."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

import miniatures
from charged import charged
from tckr.diffusion.dp_lora import (
    _as_lora,
    _whole,
    adapt_privately,
    adaptation_plan,
    adaptation_size,
    denoising_loss,
)
from tckr.diffusion.lora import _encoded, _with_lora
from tckr.diffusion.private_options import DPAdaptationOptions
from tckr.diffusion.stored import load_trained
from tckr.diffusion.update import DenoiserUpdate
from tckr.dp import Noise, recorder
from tckr.errors import UserError
from tckr.options import PrivateSchedule
from tckr.training.per_image import recording
from tckr.training.private import gradient_sum

ENDLESS = 1e12
IMAGES = torch.randint(
    0, 256, (5, 1, 20, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
PROMPTS = [f"a small red shape {number}" for number in range(5)]
NAMES = ["bag"] * 5


@pytest.fixture(scope="module")
def pipeline() -> Any:
    torch.manual_seed(0)
    built = miniatures.generator()
    for part in (built.unet, built.vae, built.text_encoder):
        part.requires_grad_(False).eval()
    return built


def options(layers: str = "everything", **changes: object) -> DPAdaptationOptions:
    usual: dict[str, object] = {"steps": 2, "sampling_rate": 1.0, "learning_rate": 1e-2, "max_grad_norm": 1e-3, "passes": 2, "micro_batch": 3}  # fmt: skip
    schedule = PrivateSchedule(**(usual | changes))  # type: ignore[arg-type]
    return DPAdaptationOptions(generator="tiny", rank=2, layers=layers, schedule=schedule)  # type: ignore[arg-type]


def full(**changes: object) -> DPAdaptationOptions:
    return options(**changes).model_copy(update={"method": "full"})  # type: ignore[arg-type]


class Fixed:
    """The loss with the same random numbers for an image, wherever it stands: drawn per image, in its order."""

    def __init__(self, pipeline: Any, chosen: DPAdaptationOptions, folder: Any) -> None:
        data = _encoded(pipeline, IMAGES, PROMPTS, NAMES, _as_lora(chosen), folder)
        self.loss = denoising_loss(pipeline, data, len(IMAGES), chosen)

    def one(self, row: int) -> torch.Tensor:
        torch.manual_seed(row)
        return self.loss(torch.tensor([row]))


@contextmanager
def training(pipeline: Any, chosen: DPAdaptationOptions) -> Iterator[list[torch.Tensor]]:
    """The weights that are trained, away from their start."""
    if chosen.method == "full":
        with _whole(pipeline.unet):
            yield list(pipeline.unet.parameters())
        return
    with _with_lora(pipeline.unet, _as_lora(chosen)) as trained:
        for each in trained:
            torch.nn.init.normal_(each, std=0.1)
        yield trained


@pytest.mark.parametrize("layers", ["attention", "linear", "everything", "full"])
def test_gradients_are_those_of_micro_batches_of_one(
    pipeline: Any, layers: str, tmp_path: Any
) -> None:
    chosen = full() if layers == "full" else options(layers)
    with training(pipeline, chosen) as trained:
        data = _encoded(pipeline, IMAGES, PROMPTS, NAMES, _as_lora(chosen), tmp_path)
        loss = denoising_loss(pipeline, data, len(IMAGES), chosen)
        with recording(pipeline.unet) as record:
            torch.manual_seed(0)
            together = record.gradients(loss(torch.arange(3)), 3)
            assert len(record.parameters) == len(trained)
        torch.manual_seed(0)
        plain = torch.autograd.grad(loss(torch.arange(3)), record.parameters)
        for ours, each in zip(
            together, plain, strict=True
        ):  # their sum is the gradient of the batch
            torch.testing.assert_close(ours.sum(0), each, rtol=1e-3, atol=1e-5)
        for row in range(2):  # and of a batch of one it is that image's own
            torch.manual_seed(row)
            with recording(pipeline.unet) as record:
                [*alone] = record.gradients(loss(torch.tensor([row])), 1)
            torch.manual_seed(row)
            wanted = torch.autograd.grad(loss(torch.tensor([row])), record.parameters)
            for ours, each in zip(alone, wanted, strict=True):
                torch.testing.assert_close(ours[0], each, rtol=1e-3, atol=1e-5)


def test_without_noise_and_clipping_it_is_plain_training(pipeline: Any, tmp_path: Any) -> None:
    chosen = options(max_grad_norm=ENDLESS, steps=1, averaging=0, optimiser="sgd")
    entry = charged(adaptation_plan(chosen, 1), 0.0)
    adapter = adapt_privately(pipeline, IMAGES, PROMPTS, NAMES, chosen, entry, Noise(seed=0), 7)
    torch.manual_seed(7)
    data = _encoded(pipeline, IMAGES, PROMPTS, NAMES, _as_lora(chosen), tmp_path)
    with _with_lora(pipeline.unet, _as_lora(chosen)) as trained:
        torch.manual_seed(Noise(seed=0).seed())
        loss = denoising_loss(pipeline, data, len(IMAGES), chosen)
        optimizer = torch.optim.SGD(trained, 1e-2)
        (loss(torch.arange(3)) / 5).backward()
        (loss(torch.arange(3, 5)) / 5).backward()
        optimizer.step()
        wanted = {
            name: each.detach()
            for name, each in pipeline.unet.named_parameters()
            if "lora_B" in name
        }
    for name, each in wanted.items():
        ours = adapter.weights[name.replace(".private.", ".")]
        torch.testing.assert_close(ours, each, rtol=1e-4, atol=1e-8)


def test_draws_are_as_secret_as_the_noise(pipeline: Any) -> None:
    """To whoever knew the seed of the noise levels, an image more would move those of all others."""
    chosen = options(max_grad_norm=ENDLESS, steps=1, averaging=0, optimiser="sgd")
    entry = charged(adaptation_plan(chosen, 1), 0.0)  # no noise: the draws alone can differ
    one, same, other = (
        adapt_privately(pipeline, IMAGES, PROMPTS, NAMES, chosen, entry, Noise(seed=seed), 7)
        for seed in (0, 0, 1)
    )
    for name, weights in one.weights.items():
        assert torch.equal(weights, same.weights[name])
    assert any(not torch.equal(w, other.weights[name]) for name, w in one.weights.items())


def test_an_image_more_changes_the_sum_by_the_clipping_norm_at_most(
    pipeline: Any, tmp_path: Any
) -> None:
    chosen = options(max_grad_norm=1e-3, micro_batch=1)
    with _with_lora(pipeline.unet, _as_lora(chosen)) as trained:
        for each in trained:
            torch.nn.init.normal_(each, std=0.1)
        fixed = Fixed(pipeline, chosen, tmp_path)

        def total(rows: list[int]) -> torch.Tensor:
            sums = [
                gradient_sum(
                    pipeline.unet, lambda part: fixed.one(int(part)), torch.tensor([r]), 1e-3
                )
                for r in rows
            ]
            return torch.cat([sum(parts).flatten() for parts in zip(*sums, strict=True)])

        change = (total([0, 1, 2, 3]) - total([0, 1, 2])).norm()
    assert 0 < float(change) <= 1e-3


@pytest.mark.parametrize("method", ["lora", "full"])
def test_recorded_on_neighbouring_sets(pipeline: Any, method: str) -> None:
    # Noise levels are drawn in the order of the images, so that leaving out the last one leaves those of the others;
    # in a batch of one, where no kernel sees the others either.
    chosen = options("attention", micro_batch=1, steps=1).model_copy(update={"method": method})
    entry = charged(adaptation_plan(chosen, 1), 1.0)

    def run(count: int) -> None:
        adapt_privately(
            pipeline, IMAGES[:count], PROMPTS[:count], NAMES[:count], chosen, entry, Noise(seed=0), 7, count=5
        )  # fmt: skip

    with recorder.recording() as first:
        run(5)
    with recorder.recording(replay=first) as second:
        run(4)
    assert 0 < recorder.check_sensitivity(first, second)["generator adaptation"] <= 1e-3


def test_the_whole_denoiser_is_trained_and_put_back(pipeline: Any, tmp_path: Any) -> None:
    chosen = full(micro_batch=2, steps=1)
    entry = charged(adaptation_plan(chosen, 1), 1.0)
    before = {name: each.clone() for name, each in pipeline.unet.named_parameters()}
    update = adapt_privately(pipeline, IMAGES, PROMPTS, NAMES, chosen, entry, Noise(seed=0), 0)
    assert update.weights.keys() == before.keys()
    assert all(float(each.abs().max()) > 0 for each in update.weights.values())
    for name, each in pipeline.unet.named_parameters():
        assert torch.equal(each, before[name])
        assert not each.requires_grad

    update.save(tmp_path)
    again = load_trained(tmp_path)
    changed = again.apply(copy.deepcopy(pipeline)).unet
    for name, each in changed.named_parameters():
        assert torch.equal(each, before[name] + update.weights[name])


def test_all_weights_without_noise_and_clipping_are_trained_plainly(
    pipeline: Any, tmp_path: Any
) -> None:
    chosen = full(max_grad_norm=ENDLESS, steps=1, averaging=0, optimiser="sgd")
    entry = charged(adaptation_plan(chosen, 1), 0.0)
    update = adapt_privately(pipeline, IMAGES, PROMPTS, NAMES, chosen, entry, Noise(seed=0), 7)
    torch.manual_seed(7)
    data = _encoded(pipeline, IMAGES, PROMPTS, NAMES, _as_lora(chosen), tmp_path)
    torch.manual_seed(Noise(seed=0).seed())
    loss = denoising_loss(pipeline, data, len(IMAGES), chosen)
    with _whole(pipeline.unet):
        (loss(torch.arange(3)) / 5).backward()
        (loss(torch.arange(3, 5)) / 5).backward()
        wanted = {name: -1e-2 * each.grad for name, each in pipeline.unet.named_parameters()}
        pipeline.unet.zero_grad(set_to_none=True)
    for name, each in wanted.items():
        # The difference of two weights is known to their rounding alone.
        torch.testing.assert_close(update.weights[name], each, rtol=1e-3, atol=3e-7)


def test_an_update_of_another_generator_is_refused(pipeline: Any) -> None:
    with pytest.raises(UserError, match=r"conv_in\.weight has shape \(1,\)"):
        DenoiserUpdate({"conv_in.weight": torch.ones(1)}).apply(pipeline)
    with pytest.raises(UserError, match="is missing"):
        DenoiserUpdate({"nowhere.weight": torch.ones(1)}).apply(pipeline)


def test_the_noise_falls_on_every_weight_that_is_trained(pipeline: Any, tmp_path: Any) -> None:
    pipeline.save_pretrained(tmp_path)
    low, all_of_it = (
        adaptation_size(each.model_copy(update={"generator": str(tmp_path)}))
        for each in (options("attention"), full())
    )
    assert all_of_it == sum(each.numel() for each in pipeline.unet.parameters())
    assert 0 < low < all_of_it
