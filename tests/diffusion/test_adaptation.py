"""What adaptation computes once, keeps, resumes and weighs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from safetensors import safe_open
from torch import Tensor

from tckr.diffusion import lora as adaptation
from tckr.diffusion.embeddings import PromptEmbeds
from tckr.diffusion.latents import encode_images
from tckr.diffusion.lora import Adapter, adapt
from tckr.diffusion.loss import DenoisingLoss, min_snr, noise_schedule, stratified
from tckr.diffusion.memory import RowsOnDevice, RowsOnDisk, cache_rows, scratch
from tckr.diffusion.options import AdaptationOptions, SamplingOptions
from tckr.diffusion.pipeline import load
from tckr.diffusion.sampling import sample
from tckr.engine.checkpoint import Checkpoint
from tckr.errors import Paused, UserError
from tckr.options import Schedule

FolderOf = Callable[[str], Path]
COUNT = 7


@pytest.fixture(scope="module")
def images() -> Tensor:
    draw = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (COUNT, 3, 16, 16), dtype=torch.uint8, generator=draw)


def fit(
    folder: Path, images: Tensor, run: dict[str, Any] | None = None, **options: Any
) -> tuple[Adapter, pd.DataFrame]:
    chosen = AdaptationOptions(
        **{
            "generator": str(folder),
            "rank": 2,
            "layers": "attention",
            "flip": True,
            "schedule": Schedule(steps=13, batch_size=4, learning_rate=1e-2),
            **options,
        }
    )
    prompts = [f"thing {i % 3}" for i in range(len(images))]
    pipeline = load(str(folder), resolution=chosen.resolution)
    return adapt(pipeline, images, prompts, ["thing"] * len(images), chosen, seed=2, **(run or {}))


def same(left: Adapter, right: Adapter) -> bool:
    return all(torch.equal(left.weights[name], right.weights[name]) for name in left.weights)


@pytest.mark.parametrize("family", ["sd2", "xl"])
def test_a_cache_on_disk_equals_one_in_memory(
    family: str,
    folder_of: FolderOf,
    images: Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(adaptation, "PART", 3)  # several shards
    folder = folder_of(family)
    held, losses = fit(folder, images)
    seen = []
    monkeypatch.setattr(
        adaptation, "cache_rows", lambda *a: seen.append(cache_rows(*a)) or seen[-1]
    )
    stored, again = fit(folder, images, {"cache_folder": tmp_path}, cache_gib=0)
    assert [type(store) for store in seen] == [RowsOnDisk, RowsOnDisk]
    assert same(held, stored)
    pd.testing.assert_frame_equal(losses, again)
    assert not list(tmp_path.iterdir())


def test_rows_come_back_in_any_order(tmp_path: Path) -> None:
    whole = {"a": torch.randn(10, 3), "b": torch.arange(10).to(torch.bfloat16)}
    parts = [{name: tensor[i : i + 4] for name, tensor in whole.items()} for i in (0, 4, 8)]
    wanted = torch.tensor([9, 0, 4, 4, 3])
    with scratch(tmp_path) as folder:
        held, stored = (cache_rows(parts, 10, budget, folder / "rows") for budget in (10 * 14, 139))
        assert isinstance(held, RowsOnDevice)
        assert isinstance(stored, RowsOnDisk)
        assert (held.size, stored.size) == (140, 0)
        for name, tensor in whole.items():
            assert torch.equal(held.read(wanted)[name], tensor[wanted])
            assert torch.equal(stored.read(wanted)[name], tensor[wanted])


def test_work_that_was_interrupted_equals_work_that_was_not(
    folder_of: FolderOf, images: Tensor, tmp_path: Path
) -> None:
    folder = folder_of("sd2")
    schedule = Schedule(steps=5, batch_size=4, learning_rate=1e-2)
    whole, losses = fit(folder, images, schedule=schedule)
    checkpoint = Checkpoint(tmp_path / "state", deadline=1e-9)
    pauses = 0
    for _ in range(20):
        try:
            resumed, again = fit(folder, images, {"checkpoint": checkpoint}, schedule=schedule)
            break
        except Paused:
            pauses += 1
            torch.rand(3)
    assert pauses == 4
    assert same(whole, resumed)
    pd.testing.assert_frame_equal(losses, again)
    with pytest.raises(UserError, match="data differ"):
        fit(folder, images.flip(0), {"checkpoint": checkpoint}, schedule=schedule)


def test_a_step_may_be_taken_in_parts(folder_of: FolderOf, images: Tensor) -> None:
    folder, sizes = folder_of("sd2"), []

    class Seen(DenoisingLoss):
        def __call__(self, unet: Any, latents: Tensor, words: PromptEmbeds) -> Tensor:
            sizes.append(len(latents))
            return super().__call__(unet, latents, words)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adaptation, "DenoisingLoss", Seen)
        _, losses = fit(folder, images, micro_batch=2)
    assert sizes == [2] * 26
    assert losses.loss.notna().all()
    with pytest.raises(ValidationError, match="multiple of micro_batch"):
        fit(folder, images, micro_batch=3)


def test_every_pass_shows_every_image_once(folder_of: FolderOf, images: Tensor) -> None:
    options = AdaptationOptions(
        generator="x",
        schedule=Schedule(steps=1, batch_size=4, learning_rate=1),
        epochs=3,
        flip=True,
        class_only=0.0,
        unconditional=0.25,
    )
    assert options.schedule_for(COUNT).steps == 6
    texts = torch.stack([torch.arange(COUNT), torch.full((COUNT,), 50), torch.full((COUNT,), 99)])
    data = adaptation._Encoded(RowsOnDevice({}), RowsOnDevice({}), texts)
    plan = adaptation._plan(data, COUNT, options, seed=1)
    assert plan.images.shape == plan.texts.shape == (6, 4)
    order, words = plan.images.flatten(), plan.texts.flatten()
    for start in (0, COUNT, 2 * COUNT):
        assert sorted((order % COUNT)[start : start + COUNT].tolist()) == list(range(COUNT))
    assert 0 < (order >= COUNT).sum() < len(order)
    own = words != 99
    assert torch.equal(words[own], (order % COUNT)[own])
    assert 0 < (~own).sum() < len(words)
    again = adaptation._plan(data, COUNT, options, seed=1)
    assert torch.equal(again.images, plan.images)
    assert not torch.equal(adaptation._plan(data, COUNT, options, seed=2).images, plan.images)


def test_mirrored_latents_are_those_of_mirrored_images(folder_of: FolderOf, images: Tensor) -> None:
    pipeline = load(str(folder_of("sd2")))
    both = torch.cat(list(encode_images(pipeline, images, True, 3)))
    plain = torch.cat(list(encode_images(pipeline, images)))
    mirrored = torch.cat(list(encode_images(pipeline, images.flip(3))))
    torch.testing.assert_close(both, torch.cat([plain, mirrored]))


def test_snapshots_look_without_touching(folder_of: FolderOf, images: Tensor) -> None:
    folder = folder_of("sd2")
    seen = []

    def look(step: int, pipeline: Any) -> None:
        torch.rand(5)
        options = SamplingOptions(steps=1, guidance_scale=1)
        seen.append((step, sample(pipeline, ["tall"], (16, 16), 3, options, seed=0)))

    watched, _ = fit(folder, images, {"snapshot_every": 6, "snapshot": look})
    assert [step for step, _ in seen] == [6, 12]
    assert not torch.equal(seen[0][1], seen[1][1])
    assert same(watched, fit(folder, images)[0])


def test_an_adapter_that_no_gradient_reaches_is_noticed_early(
    folder_of: FolderOf, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []

    def stuck(self: DenoisingLoss, unet: Any, latents: Tensor, words: PromptEmbeds) -> Tensor:
        taken.append(1)
        return sum(0 * p.sum() for p in unet.parameters() if p.requires_grad)

    monkeypatch.setattr(DenoisingLoss, "__call__", stuck)
    with pytest.raises(RuntimeError, match="did not move"):
        fit(folder_of("sd2"), images)
    assert len(taken) == adaptation.CHECK_AT


def test_alpha_is_folded_in(folder_of: FolderOf, images: Tensor, tmp_path: Path) -> None:
    """One step of AdamW from zero: nearly every number of B has the size of the learning rate, alpha sets its weight."""
    schedule = Schedule(steps=1, batch_size=4, learning_rate=1e-3, warmup=0, weight_decay=0)
    plain, _ = fit(folder_of("sd2"), images, schedule=schedule)
    scaled, _ = fit(folder_of("sd2"), images, schedule=schedule, alpha=6)
    for name, tensor in plain.weights.items():
        if "lora_B" in name:
            sizes = scaled.weights[name].abs().median(), 3 * tensor.abs().median()
            torch.testing.assert_close(*sizes, rtol=0.02, atol=0)
        else:
            torch.testing.assert_close(scaled.weights[name], tensor)
    scaled.save(tmp_path)
    with safe_open(tmp_path / "pytorch_lora_weights.safetensors", "pt") as file:
        assert "alpha" not in str(file.metadata())


def test_min_snr_weights_are_those_of_the_paper(folder_of: FolderOf) -> None:
    snr = torch.tensor([0.0, 0.5, 5.0, 20.0])
    # Hang et al. 2023: for the predicted image min(SNR, 5); divided by SNR for noise, by SNR + 1 for v.
    assert min_snr(snr, 5, "sample").tolist() == [0, 0.5, 5, 5]
    assert min_snr(snr, 5, "epsilon").tolist() == [1, 1, 1, 0.25]
    torch.testing.assert_close(
        min_snr(snr, 5, "v_prediction"), torch.tensor([0, 0.5 / 1.5, 5 / 6, 5 / 21])
    )
    pipeline = load(str(folder_of("sd2")))
    scheduler, cpu = noise_schedule(pipeline), torch.device("cpu")
    latents, words = torch.randn(4, 4, 8, 8), PromptEmbeds(torch.randn(4, 24, 32))
    with torch.no_grad():
        values = []
        for gamma in (None, 1e9, 1.0):
            torch.manual_seed(3)
            denoising = DenoisingLoss(scheduler, cpu, gamma)
            values.append(float(denoising(pipeline.unet, latents, words)))
        torch.manual_seed(3)
        steps = denoising.stratified_timesteps(4)
    assert values[2] < values[1] < values[0]
    # v-prediction: with an infinite gamma the weight is SNR / (SNR + 1), the share of signal.
    torch.testing.assert_close(
        DenoisingLoss(scheduler, cpu, 1e9).weights[steps], scheduler.alphas_cumprod[steps]
    )


@given(st.integers(1, 4096), st.integers(2, 4000))
def test_the_largest_draw_is_still_a_step_of_the_schedule(parts: int, steps: int) -> None:
    largest = torch.full((1, parts), 1 - 2**-24)  # of float32 draws in [0, 1)
    assert stratified(largest, steps).max() == steps - 1
    assert stratified(0 * largest, steps).min() == 0


def test_each_row_has_a_timestep_in_each_part() -> None:
    drawn = stratified(torch.rand(500, 4), 1000)
    assert (drawn // 250 == torch.arange(4)).all()
    assert drawn[:, 0].unique().numel() > 100


def test_independent_timesteps_cover_the_schedule() -> None:
    from diffusers import DDPMScheduler

    torch.manual_seed(0)
    drawn = DenoisingLoss(
        DDPMScheduler(), torch.device("cpu"), timesteps="independent"
    ).sample_timesteps(4000)
    assert drawn.min() < 10
    assert drawn.max() > 989
    assert abs(drawn.float().mean() - 499.5) < 20


def test_another_resolution_is_adapted_at(folder_of: FolderOf, images: Tensor) -> None:
    adapter, losses = fit(folder_of("sd2"), images, resolution=24, rank=1)
    assert losses.loss.notna().all()
    adapter.check(load(str(folder_of("sd2"))).unet)


def test_a_constant_schedule_stays() -> None:
    schedule = Schedule(steps=9, batch_size=4, learning_rate=1e-4, warmup=0, decay="constant")
    assert {schedule.learning_rate_at(step) for step in range(9)} == {1e-4}
