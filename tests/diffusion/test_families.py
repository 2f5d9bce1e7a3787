"""Every family of generators is loaded, adapted and sampled by the same three verbs, and as diffusers itself does it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler

from tckr.diffusion.embeddings import encode_prompts
from tckr.diffusion.frames import to_bytes
from tckr.diffusion.lora import adapt
from tckr.diffusion.memory import RowsOnDevice
from tckr.diffusion.options import AdaptationOptions, SamplingOptions, Solver
from tckr.diffusion.pipeline import CLASSES, load, side, solver
from tckr.diffusion.sampler import Sampler, first_noise
from tckr.diffusion.sampling import sample
from tckr.errors import UserError
from tckr.options import Schedule

FAMILIES = ("sd1", "sd2", "turbo", "xl")
PROMPTS = ["a red boot", "tall", "", "round grey"]
FolderOf = Callable[[str], Path]


def sampler(pipeline: Any, seed: int = 3, **options: Any) -> Sampler:
    rows, size = torch.arange(len(PROMPTS)), (16, 16)
    words = RowsOnDevice(encode_prompts(pipeline, PROMPTS).tensors())
    chosen = SamplingOptions(**{"steps": 4, "guidance_scale": 2.0, **options})
    return Sampler(pipeline, words, rows, encode_prompts(pipeline, [""]), size, 3, chosen, seed)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_three_verbs(family: str, folder_of: FolderOf) -> None:
    folder = folder_of(family)
    images = torch.randint(0, 256, (6, 3, 20, 24), dtype=torch.uint8)
    options = AdaptationOptions(
        generator=str(folder),
        rank=2,
        layers="attention",
        schedule=Schedule(steps=12, batch_size=4, learning_rate=1e-2),
        unconditional=0.3,
        flip=True,
    )
    adapter, losses = adapt(load(str(folder)), images, ["a"] * 6, ["b"] * 6, options, seed=0)
    assert losses.loss.notna().all()
    drawn = SamplingOptions(steps=1 if family == "turbo" else 3, guidance_scale=0 if family == "turbo" else 2)  # fmt: skip
    base = sample(load(str(folder)), PROMPTS, (20, 24), 3, drawn, seed=1)
    adapted = sample(adapter.apply(load(str(folder))), PROMPTS, (20, 24), 3, drawn, seed=1)
    assert base.shape == adapted.shape == (4, 3, 20, 24)
    assert not torch.equal(base, adapted)
    assert not torch.equal(base[0], base[1])


@pytest.mark.parametrize("guidance", [1.0, 2.5])
@pytest.mark.parametrize("family", FAMILIES)
def test_sampling_is_what_the_pipeline_itself_does(
    family: str, guidance: float, folder_of: FolderOf
) -> None:
    pipeline = load(str(folder_of(family)))
    asked = sampler(pipeline, guidance_scale=guidance)
    shape, rows = (4, 8, 8), range(4)
    noise = first_noise(shape, 3, rows, torch.device("cpu"))
    theirs = pipeline(
        # The empty prompt is read as no prompt, which XL encodes as zeros; the pipeline does so for negatives only.
        ["a red boot", "tall", "tall", "round grey"],
        latents=noise,
        num_inference_steps=4,
        guidance_scale=guidance,
        height=16,
        width=16,
        output_type="latent",
    ).images
    ours = asked.denoise(rows)
    others = [0, 1, 3]
    torch.testing.assert_close(ours[others], theirs[others], rtol=1e-4, atol=1e-4)
    decoded = pipeline.vae.decode(theirs / pipeline.vae.config.scaling_factor).sample
    pixels = to_bytes(decoded).int()
    assert (asked(rows).int() - pixels)[others].abs().max() <= 1


@pytest.mark.parametrize("name", [name for name in get_args(Solver) if name != "as_downloaded"])
def test_every_solver_draws(name: Any, folder_of: FolderOf) -> None:
    pipeline = load(str(folder_of("sd2")))
    chosen = solver(pipeline.scheduler, name)
    assert type(chosen).__name__ == CLASSES[name]
    assert chosen.config.prediction_type == "v_prediction"
    options = SamplingOptions(steps=4, guidance_scale=1.5, scheduler=name, batch_size=3)
    drawn = sample(pipeline, PROMPTS, (16, 16), 3, options, seed=1)
    alone = options.model_copy(update={"batch_size": 1})
    assert (
        drawn.int() - sample(pipeline, PROMPTS, (16, 16), 3, alone, seed=1).int()
    ).abs().max() <= 1
    assert len({image.numpy().tobytes() for image in drawn}) == len(PROMPTS)


def test_the_solver_as_downloaded_is_the_generators_own(folder_of: FolderOf) -> None:
    own = load(str(folder_of("turbo"))).scheduler
    copy = solver(own, "as_downloaded")
    assert type(copy) is type(own)
    assert copy is not own
    assert dict(copy.config) == dict(own.config)


def test_a_chosen_solver_equals_the_pipeline_with_it(folder_of: FolderOf) -> None:
    pipeline = load(str(folder_of("sd1")))
    ours = sampler(pipeline, scheduler="dpmsolver").denoise(range(4))
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    theirs = pipeline(
        PROMPTS,
        latents=first_noise((4, 8, 8), 3, range(4), torch.device("cpu")),
        num_inference_steps=4,
        guidance_scale=2.0,
        output_type="latent",
    ).images
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_denoiser_that_reads_the_guidance_scale_is_told_it(folder_of: FolderOf) -> None:
    """Latent consistency models: one pass a step, the scale among its inputs."""
    pipeline = load(str(folder_of("sd1")))
    torch.manual_seed(0)
    pipeline.unet = type(pipeline.unet).from_config({**pipeline.unet.config, "time_cond_proj_dim": 8})  # fmt: skip
    ours = sampler(pipeline, guidance_scale=6, scheduler="lcm")
    passes = []
    hook = pipeline.unet.register_forward_hook(lambda *_: passes.append(1))
    latents = ours.denoise(range(4))
    assert len(passes) == 4
    hook.remove()
    plain = sampler(pipeline, guidance_scale=6)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        PROMPTS,
        latents=first_noise((4, 8, 8), 3, range(4), torch.device("cpu")),
        num_inference_steps=4,
        guidance_scale=6,
        output_type="latent",
    ).images
    again = plain.denoise(range(4))
    torch.testing.assert_close(again, theirs, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(latents, again)


def test_guidance_in_the_whole_interval_is_plain_guidance_and_in_none_of_it_none(
    folder_of: FolderOf,
) -> None:
    pipeline = load(str(folder_of("sd2")))
    rows = range(4)

    def latents(**options: Any) -> torch.Tensor:
        return sampler(pipeline, **options).denoise(rows)

    plain = latents(guidance_scale=3.0)
    assert torch.equal(plain, latents(guidance_scale=3.0, guidance_interval=(0, 1)))
    none = latents(guidance_scale=3.0, guidance_interval=(0.3, 0.3))
    torch.testing.assert_close(none, latents(guidance_scale=1.0))
    middle = latents(guidance_scale=3.0, guidance_interval=(0.25, 0.75))
    assert not torch.allclose(middle, plain)
    assert not torch.allclose(middle, none)


def test_xl_reads_nothing_as_zeros_and_both_encoders(folder_of: FolderOf) -> None:
    words = encode_prompts(load(str(folder_of("xl"))), ["a red boot", "", "a red boot"])
    assert words.encoder_hidden_states.shape == (3, 24, 48)
    assert words.text_embeds is not None
    assert words.text_embeds.shape == (3, 16)
    assert words.encoder_hidden_states[1].abs().max() == words.text_embeds[1].abs().max() == 0
    assert words.encoder_hidden_states[0].abs().max() > 0
    assert words.time_ids is not None
    assert words.time_ids.tolist() == [[16, 16, 0, 0, 16, 16]] * 3
    assert torch.equal(
        words[torch.tensor([2])].encoder_hidden_states[0], words.encoder_hidden_states[0]
    )


def test_a_generator_works_at_another_resolution(folder_of: FolderOf) -> None:
    folder = str(folder_of("sd2"))
    pipeline = load(folder, resolution=24)
    assert side(pipeline) == 24
    drawn = sample(pipeline, ["tall"], (24, 24), 3, SamplingOptions(steps=1), seed=0)
    assert drawn.shape == (1, 3, 24, 24)
    with pytest.raises(UserError, match="multiple of 2"):
        load(folder, resolution=25)


def test_a_hub_model_that_is_not_there_says_how_to_get_it() -> None:
    with pytest.raises(UserError, match=r"hf download nobody/no-such-model --local-dir"):
        load("nobody/no-such-model")


def test_pickled_weights_are_refused(folder_of: FolderOf, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(folder_of("sd1"), tmp_path / "pickled"))
    weights = folder / "unet/diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(UserError, match="safetensors"):
        load(str(folder))


def test_workers_draw_the_same_images_with_two_text_encoders(folder_of: FolderOf) -> None:
    pipeline = load(str(folder_of("xl")))  # of sd1: test_adapt_and_sample.py
    options = SamplingOptions(steps=1, guidance_scale=2, batch_size=2)
    alone = sample(pipeline, PROMPTS, (16, 16), 3, options, seed=1)
    workers = options.model_copy(update={"workers": 2})
    assert torch.equal(alone, sample(pipeline, PROMPTS, (16, 16), 3, workers, seed=1))
    assert pipeline.text_encoder is not None
