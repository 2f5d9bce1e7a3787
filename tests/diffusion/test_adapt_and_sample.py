"""Adapting and sampling with a real Stable-Diffusion-type pipeline of random weights."""

import copy
from operator import attrgetter
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

import miniatures
from tckr.diffusion.embeddings import PromptEmbeds, encode_prompts
from tckr.diffusion.lora import Adapter, _present, adapt
from tckr.diffusion.loss import DenoisingLoss, noise_schedule
from tckr.diffusion.options import EVERYTHING, AdaptationOptions, SamplingOptions
from tckr.diffusion.pipeline import count_cut, load, side
from tckr.diffusion.sampling import balanced_prompts, sample
from tckr.engine.shards import ShardError
from tckr.errors import UserError, user_error
from tckr.options import Schedule

SAMPLING = SamplingOptions(steps=2, guidance_scale=1.5, batch_size=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return miniatures.save_generator(tmp_path_factory.mktemp("generator"))


@pytest.fixture
def pipeline(folder: Path) -> StableDiffusionPipeline:
    return load(str(folder))


@pytest.fixture(scope="module")
def adapted(folder: Path) -> tuple[Adapter, list[float]]:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (12, 1, 14, 14), dtype=torch.uint8)
    options = AdaptationOptions(
        generator=str(folder),
        rank=2,
        schedule=Schedule(steps=40, batch_size=12, learning_rate=1e-2),
    )
    adapter, losses = adapt(
        load(str(folder)), images, ["bag: grey"] * 12, ["bag"] * 12, options, seed=1
    )
    return adapter, losses.loss.tolist()


def test_adaptation_lowers_the_loss_and_leaves_the_generator_alone(
    adapted: tuple[Adapter, list[float]], folder: Path
) -> None:
    adapter, losses = adapted
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])
    assert all(torch.isfinite(weight).all() for weight in adapter.weights.values())


def test_the_same_seed_gives_the_same_adapter(folder: Path) -> None:
    images = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
    options = AdaptationOptions(
        generator=str(folder),
        rank=1,
        layers="attention",
        schedule=Schedule(steps=2, batch_size=4, learning_rate=1e-3),
    )
    pipeline = load(str(folder))
    before = {name: weight.clone() for name, weight in pipeline.unet.state_dict().items()}
    first, second = (
        adapt(pipeline, images, ["a"] * 4, ["b"] * 4, options, seed=3)[0] for _ in range(2)
    )
    assert all(torch.equal(first.weights[name], second.weights[name]) for name in first.weights)
    after = pipeline.unet.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def _inputs(pipeline: StableDiffusionPipeline) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Noisy latents, timesteps and text embeddings of two images."""
    config = pipeline.unet.config
    latents = torch.randn(2, config.in_channels, config.sample_size, config.sample_size)
    return latents, torch.tensor([5, 900]), torch.randn(2, 24, config.cross_attention_dim)


def test_an_adapter_survives_the_disk_and_plain_diffusers(
    adapted: tuple[Adapter, list[float]], folder: Path, tmp_path: Path
) -> None:
    adapter = adapted[0]
    adapter.save(tmp_path)
    again = Adapter.load(tmp_path)
    assert all(torch.equal(adapter.weights[name], again.weights[name]) for name in adapter.weights)
    ours, plain = again.apply(load(str(folder))), load(str(folder))
    plain.load_lora_weights(tmp_path)
    with torch.inference_mode():
        inputs = _inputs(plain)
        torch.testing.assert_close(
            ours.unet(*inputs).sample, plain.unet(*inputs).sample, rtol=1e-4, atol=1e-4
        )
        assert (
            ours.unet(*inputs).sample - load(str(folder)).unet(*inputs).sample
        ).abs().max() > 1e-3


def test_every_layer_of_an_adapter_comes_back(pipeline: StableDiffusionPipeline) -> None:
    unet = pipeline.unet
    inputs = _inputs(pipeline)
    layers = _present(unet, EVERYTHING)
    assert {name.split(".")[-1] for name in layers} >= {
        "to_q",
        "to_k",
        "to_v",
        "conv1",
        "conv_in",
        "time_emb_proj",
    }
    unet.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=layers), adapter_name="private")
    with torch.no_grad():
        for parameter in unet.parameters():
            if parameter.requires_grad:
                parameter.normal_(0, 0.1)
    with torch.inference_mode():
        trained = unet(*inputs).sample
        weights = get_peft_model_state_dict(unet, adapter_name="private")
        unet.unload_lora()
        again = Adapter(weights).apply(pipeline).unet(*inputs).sample
    torch.testing.assert_close(again, trained, rtol=1e-4, atol=1e-4)


def test_a_missing_adapter_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="pytorch_lora_weights"):
        Adapter.load(tmp_path)


def test_an_image_does_not_depend_on_its_batch_or_worker(pipeline: StableDiffusionPipeline) -> None:
    prompts = ["a red boot", "a grey shape", "tall", "wide", "round"]
    all_at_once = sample(
        pipeline, prompts, (14, 14), 1, SAMPLING.model_copy(update={"batch_size": 5}), seed=4
    )
    assert all_at_once.shape == (5, 1, 14, 14)
    by_threes = sample(pipeline, prompts, (14, 14), 1, SAMPLING, seed=4)
    assert (all_at_once.int() - by_threes.int()).abs().max() <= 1
    workers = SAMPLING.model_copy(update={"workers": 2})
    assert torch.equal(by_threes, sample(pipeline, prompts, (14, 14), 1, workers, seed=4))
    other = sample(pipeline, prompts, (14, 14), 1, SAMPLING, seed=5)
    assert (all_at_once.int() - other.int()).abs().max() > 1


@pytest.mark.parametrize("part", ["unet", "vae.decoder"])
def test_images_that_are_not_finite_stop_the_run(
    part: str, pipeline: StableDiffusionPipeline
) -> None:
    """As bytes they would be black, and a student would be trained on them."""
    broken = copy.deepcopy(pipeline)
    with torch.no_grad():
        next(attrgetter(part)(broken).parameters()).fill_(float("nan"))
    options = SamplingOptions(steps=1, guidance_scale=1, workers=1)
    with pytest.raises(ShardError) as caught:
        sample(broken, ["tall", "wide"], (16, 16), 1, options, seed=0)
    assert "images are not finite" in str(user_error(caught.value))


def test_prompts_steer_the_image(pipeline: StableDiffusionPipeline) -> None:
    one, two = (
        sample(pipeline, [prompt], (16, 16), 3, SAMPLING, seed=4)
        for prompt in ("a red boot", "tall wide")
    )
    assert not torch.equal(one, two)


def test_embeddings_follow_the_prompts(pipeline: StableDiffusionPipeline) -> None:
    rows = encode_prompts(pipeline, ["a", "b", "a"])
    assert rows.encoder_hidden_states.shape == (3, 24, 32)
    assert torch.equal(rows.encoder_hidden_states[0], rows.encoder_hidden_states[2])
    assert not torch.equal(rows.encoder_hidden_states[0], rows.encoder_hidden_states[1])


def test_prompts_that_are_cut_are_counted(folder: Path) -> None:
    """M4 of the review: of a long prompt the end was left unread, without a word."""
    assert count_cut(str(folder), ["a", "boot " * 100, "b", "boot " * 100]) == 2
    assert count_cut(str(folder), ["a", "b"]) == 0


def test_the_denoising_loss_of_a_perfect_network_is_zero(pipeline: StableDiffusionPipeline) -> None:
    denoising = DenoisingLoss(noise_schedule(pipeline), torch.device("cpu"))
    latents = torch.randn(6, 4, 8, 8)

    class Oracle(torch.nn.Module):
        def forward(self, noisy, steps, encoder_hidden_states, return_dict):  # type: ignore[no-untyped-def]
            a, b = (
                denoising.alpha[steps, None, None, None],
                denoising.sigma[steps, None, None, None],
            )
            noise = (noisy - a * latents) / b
            return (a * noise - b * latents,)

    assert float(denoising(Oracle(), latents, PromptEmbeds(torch.zeros(6, 24, 32)))) < 1e-4
    assert len({int(step) // 100 for step in denoising.stratified_timesteps(10)}) == 10


def test_side(pipeline: StableDiffusionPipeline) -> None:
    assert side(pipeline) == 16


def test_classes_are_balanced_and_prompts_reused_evenly() -> None:
    drawn = balanced_prompts(["a", "b", "c", "d"], [0, 0, 0, 1], 13, seed=0)
    assert drawn.label.value_counts().to_dict() == {0: 7, 1: 6}
    assert drawn[drawn.label == 0].prompt.value_counts().max() == 3
    assert drawn.equals(balanced_prompts(["a", "b", "c", "d"], [0, 0, 0, 1], 13, seed=0))


def test_every_prefix_of_a_nested_plan_is_a_balanced_plan() -> None:
    prompts, labels = [f"{c}{i}" for c in "abc" for i in range(4)], [0] * 4 + [1] * 4 + [2] * 4
    drawn = balanced_prompts(prompts, labels, 50, seed=0, nested=True)

    counts = drawn.label.to_numpy()[:, None] == [0, 1, 2]
    so_far = counts.cumsum(axis=0)
    assert len(drawn) == 50
    assert (so_far.max(axis=1) - so_far.min(axis=1)).max() == 1
    # Every class comes first now and then: the order within a round is drawn.
    assert set(drawn.label[::3]) == {0, 1, 2}
    assert drawn.head(12).prompt.is_unique
    assert drawn.equals(balanced_prompts(prompts, labels, 50, seed=0, nested=True))
    assert not drawn.equals(balanced_prompts(prompts, labels, 50, seed=1, nested=True))


def test_repeated_prompts_keep_their_own_images(pipeline: StableDiffusionPipeline) -> None:
    drawn = sample(pipeline, ["tall", "wide", "tall", "tall"], (14, 14), 1, SAMPLING, seed=4)
    alone = sample(pipeline, ["tall", "wide"], (14, 14), 1, SAMPLING, seed=4)

    assert (drawn[:2].int() - alone.int()).abs().max() <= 1
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no model_index.json"),
        ('{"_class_name": "FluxPipeline"}', "holds a FluxPipeline"),
        ('{"_class_name": "StableDiffusionPipeline"}', "lacks unet, vae"),
    ],
)
def test_folders_of_another_kind_are_refused(
    tmp_path: Path, content: str | None, message: str
) -> None:
    if content:
        (tmp_path / "model_index.json").write_text(content)
    with pytest.raises(UserError, match=message):
        load(str(tmp_path))


def test_a_missing_generator_is_refused() -> None:
    with pytest.raises(UserError, match="could not be loaded"):
        load("nobody/no-such-model")


def test_the_first_noise_is_scaled_and_nothing_else(pipeline: StableDiffusionPipeline) -> None:
    from dataclasses import replace

    from tckr.diffusion.memory import RowsOnDevice
    from tckr.diffusion.sampler import Sampler

    embeds = encode_prompts(pipeline, ["bag"])
    plain = Sampler(
        pipeline, RowsOnDevice(embeds.tensors()), torch.zeros(4).long(), embeds, (16, 16), 1, SAMPLING, 3
    )  # fmt: skip
    wide = replace(plain, options=SAMPLING.model_copy(update={"initial_noise_scale": 1.5}))
    numbers = range(4)
    first, scaled = (sampler.denoise(numbers, only=0) for sampler in (plain, wide))
    torch.testing.assert_close(scaled, 1.5 * first)
    assert not torch.equal(plain(numbers), wide(numbers))
    assert "initial_noise_scale" in wide.options.recipe()


def test_adapters_on_the_way_are_those_that_a_shorter_training_of_the_schedule_would_leave(
    folder: Path,
) -> None:
    images = torch.randint(
        0, 256, (6, 1, 14, 14), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    schedule = Schedule(steps=4, batch_size=4, learning_rate=1e-2, averaging=0.5)
    options = AdaptationOptions(generator=str(folder), rank=2, alpha=4, schedule=schedule)
    kept: dict[int, Adapter] = {}
    words = ["bag: grey"] * 6, ["bag"] * 6
    last, _ = adapt(
        load(str(folder)), images, *words, options, seed=1, keep_at=(2, 4), keep=kept.__setitem__
    )
    assert sorted(kept) == [2, 4]
    assert kept[4].weights.keys() == last.weights.keys()
    assert all(torch.equal(kept[4].weights[name], last.weights[name]) for name in last.weights)
    assert not all(torch.equal(kept[2].weights[name], last.weights[name]) for name in last.weights)
    kept[2].check(load(str(folder)).unet)
