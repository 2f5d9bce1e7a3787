"""A real, tiny generator that was over-fitted on a few images knows them better than others."""

import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

import miniatures
from memorised import learn_by_heart, smooth_images, spread_latents
from tckr.audit import denoising_attacks
from tckr.audit.denoising import calibrated, denoising_signals
from tckr.audit.denoising_attacks import SIGNALS
from tckr.audit.options import GeneratorThreat
from tckr.diffusion.embeddings import encode_prompts
from tckr.diffusion.latents import encode_images
from tckr.diffusion.loss import noise_schedule
from tckr.errors import UserError

MEMBERS, OTHERS = slice(8), slice(8, 16)
PROMPTS = ["bag: small grey", "boot: tall"] * 8
ALL = tuple(SIGNALS)


@pytest.fixture(scope="module")
def generator() -> StableDiffusionPipeline:
    torch.manual_seed(0)
    pipeline = miniatures.generator()
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        part.requires_grad_(False).eval()
    return pipeline


@pytest.fixture(scope="module")
def base(generator: StableDiffusionPipeline, images: torch.Tensor) -> StableDiffusionPipeline:
    """Its random autoencoder made to give latents of unit spread, as a trained one does."""
    spread_latents(generator, images)
    return generator


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """16 grey images, smaller than the frame: smooth, so that the autoencoder tells them apart."""
    return smooth_images(16, 14)


@pytest.fixture(scope="module")
def adapted(base: StableDiffusionPipeline, images: torch.Tensor) -> StableDiffusionPipeline:
    """The generator after 150 full steps on the first 8 images alone."""
    torch.manual_seed(2)
    parts = {**base.components, "unet": copy.deepcopy(base.unet)}
    adapted = StableDiffusionPipeline(**parts, requires_safety_checker=False)
    learn_by_heart(adapted, images[MEMBERS], PROMPTS[MEMBERS])
    return adapted


@pytest.fixture
def prediction(base: StableDiffusionPipeline, request: pytest.FixtureRequest) -> Iterator[str]:
    """The generator taken for one that predicts something else."""
    before = base.scheduler.config.prediction_type
    base.scheduler.register_to_config(prediction_type=request.param)
    yield request.param
    base.scheduler.register_to_config(prediction_type=before)


@pytest.mark.slow
def test_members_are_known_better(
    base: StableDiffusionPipeline, adapted: StableDiffusionPipeline, images: torch.Tensor
) -> None:
    after = denoising_signals(adapted, images, PROMPTS, signals=ALL, noises=2)
    before = denoising_signals(base, images, PROMPTS, signals=ALL, noises=2)
    for name in ALL:
        assert after[name].shape == (16,)
        assert after[name].dtype == np.float64
        gain = calibrated(after[name], before[name])
        np.testing.assert_array_equal(gain, after[name] - before[name])
        assert ranked_right(before[name]) < 0.75
        assert ranked_right(after[name]) > 0.8
        assert ranked_right(gain) > 0.8
        assert gain[MEMBERS].mean() > 0.3 + gain[OTHERS].mean()


def ranked_right(signal: np.ndarray) -> float:
    """Share of the pairs of a member and another in which the member has more signal."""
    return float((signal[MEMBERS, None] > signal[OTHERS]).mean())


def test_every_image_is_asked_the_same_whatever_its_batch(
    base: StableDiffusionPipeline, images: torch.Tensor
) -> None:
    whole = denoising_signals(base, images, PROMPTS, seed=3)
    again = denoising_signals(base, images, PROMPTS, seed=3)
    parts = denoising_signals(base, images, PROMPTS, seed=3, batch_size=5)
    other = denoising_signals(base, images, PROMPTS, seed=4)
    alone = denoising_signals(base, images[6:7], PROMPTS[6:7], seed=3)
    for name in ("loss", "one_query"):
        np.testing.assert_array_equal(whole[name], again[name])
        np.testing.assert_allclose(whole[name], parts[name], atol=1e-5)
        np.testing.assert_allclose(whole[name][6:7], alone[name], atol=1e-5)
    assert np.abs(whole["loss"] - other["loss"]).min() > 0
    np.testing.assert_array_equal(whole["one_query"], other["one_query"])  # needs no noise


def test_the_loss_is_that_of_training_at_fixed_timesteps(
    base: StableDiffusionPipeline, images: torch.Tensor
) -> None:
    """For v-prediction the training loss is that of the noise over the retained signal."""
    found = denoising_signals(base, images, PROMPTS, timesteps=(0.4,), seed=5)["loss"]
    schedule = noise_schedule(base)
    assert schedule.config.prediction_type == "v_prediction"
    latents, words = torch.cat(list(encode_images(base, images))), encode_prompts(base, PROMPTS)
    noise = torch.randn((1, 1, *latents.shape[1:]), generator=torch.Generator().manual_seed(5))[0]
    steps, noise = torch.full((16,), 400), noise.expand_as(latents)
    noisy = schedule.add_noise(latents, noise, steps)
    with torch.no_grad():
        answer = base.unet(noisy, steps, return_dict=False, **words.unet_kwargs())[0]
    target = schedule.get_velocity(latents, noise, steps)
    loss = (answer - target).square().mean((1, 2, 3)) * schedule.alphas_cumprod[400]
    np.testing.assert_allclose(np.exp(-found), loss.double(), rtol=1e-4)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"], indirect=True)
def test_a_perfect_denoiser_is_read_as_one(
    base: StableDiffusionPipeline,
    images: torch.Tensor,
    prediction: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    latents = torch.cat(list(encode_images(base, images)))
    schedule = noise_schedule(base)

    def knows(noisy: torch.Tensor, steps: torch.Tensor, **_: object) -> tuple[torch.Tensor]:
        a = schedule.alphas_cumprod[steps].sqrt()[:, None, None, None]
        b = (1 - a.square()).sqrt()
        noise = (noisy - a * latents) / b
        velocity = a * noise - b * latents
        return ({"epsilon": noise, "v_prediction": velocity, "sample": latents}[prediction],)

    monkeypatch.setattr(base.unet, "forward", knows)
    found = denoising_signals(base, images, PROMPTS)
    assert found["loss"].min() > 12  # errors below e^-12
    signal = schedule.alphas_cumprod[int(denoising_attacks.ONE_QUERY * 1000)]
    expected = latents * ((1 - signal.sqrt()) / (1 - signal).sqrt())
    norm = expected.flatten(1).norm(p=denoising_attacks.NORM, dim=1)
    np.testing.assert_allclose(np.exp(-found["one_query"]), norm, rtol=1e-3)


@pytest.mark.parametrize("name", ["pia", "secmi"])
def test_a_denoiser_of_normal_images_has_the_errors_of_the_equations(
    base: StableDiffusionPipeline,
    images: torch.Tensor,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of x_0 ~ N(0, s^2) the best denoiser is eps(x, t) = b x / (a^2 s^2 + b^2): every step is a factor."""
    latents = torch.cat(list(encode_images(base, images)))
    bars = noise_schedule(base).alphas_cumprod.double().tolist()
    spread = 0.5

    def factor(step: int) -> float:
        return (1 - bars[step]) ** 0.5 / (bars[step] * spread**2 + 1 - bars[step])

    def knows(noisy: torch.Tensor, steps: torch.Tensor, **_: object) -> tuple[torch.Tensor]:
        step = int(steps[0])
        a, b = bars[step] ** 0.5, (1 - bars[step]) ** 0.5
        return ((factor(step) - b) / a * noisy,)  # e = a v + b x_t

    def ddim(step: int, to: int) -> float:
        image = (1 - (1 - bars[step]) ** 0.5 * factor(step)) / bars[step] ** 0.5
        return bars[to] ** 0.5 * image + (1 - bars[to]) ** 0.5 * factor(step)

    monkeypatch.setattr(base.unet, "forward", knows)
    found = denoising_signals(base, images, PROMPTS, signals=(name,))[name]  # type: ignore[arg-type]
    if name == "pia":
        at = bars[200] ** 0.5 + (1 - bars[200]) ** 0.5 * factor(0)
        gain = factor(0) - factor(200) * at
        expected = latents.flatten(1).norm(p=4, dim=1).double() * abs(gain)
    else:
        there = np.prod([ddim(t, t + 10) for t in range(0, 100, 10)])
        gain = there * (ddim(100, 110) * ddim(110, 100) - 1)
        expected = latents.double().square().flatten(1).sum(1) * gain**2
    np.testing.assert_allclose(np.exp(-found), expected, rtol=2e-3)


def test_a_perfect_memory_leaves_no_error(
    base: StableDiffusionPipeline, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who knows x_0 finds one and the same noise along its whole trajectory."""
    latents = torch.cat(list(encode_images(base, images)))
    schedule = noise_schedule(base)

    def knows(noisy: torch.Tensor, steps: torch.Tensor, **_: object) -> tuple[torch.Tensor]:
        a = schedule.alphas_cumprod[steps].sqrt()[:, None, None, None]
        b = (1 - a.square()).sqrt()
        return (a * (noisy - a * latents) / b - b * latents,)

    before = denoising_signals(base, images, PROMPTS, signals=("pia", "secmi"))
    monkeypatch.setattr(base.unet, "forward", knows)
    found = denoising_signals(base, images, PROMPTS, signals=("pia", "secmi"))
    for name in ("pia", "secmi"):
        assert found[name].min() > before[name].max() + 5


def test_the_estimate_of_time_counts_the_passes(
    base: StableDiffusionPipeline, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes, forward = [], base.unet.forward

    def counted(*args: object, **kwargs: object) -> object:
        passes.append(1)
        return forward(*args, **kwargs)

    monkeypatch.setattr(base.unet, "forward", counted)
    threat = GeneratorThreat(signals=ALL, timesteps=(0.1, 0.4), noises=3)
    denoising_signals(base, images, PROMPTS, **threat.queries())
    assert len(passes) == threat.passes
    with pytest.raises(ValueError, match="record"):
        GeneratorThreat(signals=("pia",), record="loss")


@pytest.mark.parametrize("prediction", ["flow_prediction"], indirect=True)
def test_unknown_predictions_are_refused(
    base: StableDiffusionPipeline, images: torch.Tensor, prediction: str
) -> None:
    with pytest.raises(UserError, match=prediction):
        denoising_signals(base, images, PROMPTS)


def test_what_cannot_be_asked_is_refused(
    base: StableDiffusionPipeline, images: torch.Tensor
) -> None:
    with pytest.raises(UserError, match="16 images and 15 prompts"):
        denoising_signals(base, images, PROMPTS[:15])
    with pytest.raises(UserError, match="timesteps"):
        denoising_signals(base, images, PROMPTS, timesteps=(0.5, 1.0))
    with pytest.raises(UserError, match="signal loss2"):
        denoising_signals(base, images, PROMPTS, signals=("loss2",))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="noises"):
        denoising_signals(base, images, PROMPTS, noises=0)
    with pytest.raises(UserError, match="do not fit"):
        calibrated(np.zeros(3), np.zeros(4))
