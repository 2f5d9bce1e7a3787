"""The generator miniature: its shapes, what was shipped, and training that is cut short and goes on."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from diffusers import StableDiffusionPipeline
from omegaconf import OmegaConf
from safetensors import safe_open
from torch import nn
from transformers import CLIPTokenizer

import miniatures
from tckr.engine.checkpoint import Checkpoints
from tckr.errors import Paused
from tckr.foundation.generator import (
    GeneratorRecipe,
    GeneratorShape,
    build_generator,
    train_generator,
)
from tckr.foundation.tokenizer import encode
from tckr.options import Schedule

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "data/06_models/foundation/generator"
FIRST = GeneratorShape(
    latent_channels=4,
    autoencoder_widths=(32, 64),
    denoiser_widths=(48, 96, 160),
    attend_from=1,
)
# What a library adds to a configuration beside the shape, and what training sets.
BESIDE = {
    "_class_name", "_diffusers_version", "_name_or_path", "architectures", "dtype", "scaling_factor",
    "transformers_version",
}  # fmt: skip
TINY = GeneratorRecipe(
    shape=GeneratorShape(
        image_size=16,
        latent_channels=4,
        autoencoder_widths=(16, 16),
        denoiser_widths=(16, 32),
        text_width=32,
        text_layers=1,
        heads=2,
    ),
    autoencoder=Schedule(steps=3, batch_size=4, learning_rate=1e-3, averaging=0.9),
    denoiser=Schedule(steps=4, batch_size=4, learning_rate=1e-3, averaging=0.9),
)


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(SHIPPED / "tokenizer")


def networks(pipeline: StableDiffusionPipeline) -> dict[str, nn.Module]:
    return {name: getattr(pipeline, name) for name in ("vae", "unet", "text_encoder")}


def settled(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration as its file would hold it, less what is beside the shape."""
    plain = json.loads(json.dumps(config))
    return {name: value for name, value in plain.items() if name not in BESIDE}


@pytest.mark.parametrize(
    ("shape", "side", "down", "up"),
    [
        (
            GeneratorShape(),
            8,
            ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
            ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
        ),
        (
            FIRST,
            16,
            ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
            ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        ),
    ],
    ids=["default", "first"],
)
def test_a_shape_gives_its_networks(
    shape: GeneratorShape, side: int, down: list[str], up: list[str], tokenizer: CLIPTokenizer
) -> None:
    pipeline = build_generator(tokenizer, shape)
    unet, vae = pipeline.unet, pipeline.vae
    size = sum(p.numel() for network in networks(pipeline).values() for p in network.parameters())
    with torch.no_grad():
        latent = vae.encode(torch.zeros(1, 3, 32, 32)).latent_dist.mean
        words = pipeline.text_encoder(encode(tokenizer, ["a bag"]))[0]
        predicted = unet(latent, 500, words).sample

    assert [type(block).__name__ for block in unet.down_blocks] == down
    assert [type(block).__name__ for block in unet.up_blocks] == up
    assert unet.config.sample_size == side
    assert latent.shape == predicted.shape == (1, shape.latent_channels, side, side)
    assert vae.decode(latent).sample.shape == (1, 3, 32, 32)
    assert words.shape == (1, tokenizer.model_max_length, shape.text_width)
    assert 4000 < len(tokenizer) <= 4096
    assert 1e6 < size <= 10e6


def test_the_shipped_generator_is_of_the_recipe(tokenizer: CLIPTokenizer) -> None:
    recipe = OmegaConf.load(ROOT / "conf/base/parameters_foundation.yml").foundation.generator
    built = build_generator(tokenizer, GeneratorShape(**recipe.shape))

    for name, network in networks(built).items():
        folder = SHIPPED / name
        shipped = json.loads((folder / "config.json").read_text())
        (weights,) = folder.glob("*.safetensors")
        with safe_open(weights, "pt") as file:
            shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118
        config = network.config
        ours = config.to_dict() if hasattr(config, "to_dict") else dict(config)

        assert settled(ours).items() >= settled(shipped).items(), name
        assert shapes == {key: list(value.shape) for key, value in network.state_dict().items()}
    scheduler = json.loads((SHIPPED / "scheduler/scheduler_config.json").read_text())
    assert settled(dict(built.scheduler.config)).items() >= settled(scheduler).items()
    assert GeneratorShape(**recipe.shape) == GeneratorShape()


Trained = tuple[StableDiffusionPipeline, dict[str, pd.DataFrame]]


@cache
def words() -> CLIPTokenizer:
    return miniatures.tokenizer()


def train(checkpoints: Checkpoints | None = None) -> Trained:
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (12, 3, 16, 16), dtype=torch.uint8, generator=draw)
    tokens = encode(words(), [miniatures.SENTENCES[index % 2] for index in range(12)])
    return train_generator(
        images, torch.stack([tokens, tokens.flip(0)]), words(), TINY, "cpu", 3, checkpoints
    )


@pytest.fixture(scope="module")
def whole() -> Trained:
    """Training in one call."""
    return train()


def assert_same(left: Trained, right: Trained) -> None:
    assert left[0].vae.config.scaling_factor == right[0].vae.config.scaling_factor
    for name, network in networks(left[0]).items():
        theirs = networks(right[0])[name].state_dict()
        assert network.state_dict().keys() == theirs.keys()
        assert all(torch.equal(value, theirs[key]) for key, value in network.state_dict().items())
    for part, losses in left[1].items():
        pd.testing.assert_frame_equal(losses, right[1][part], check_exact=True)


def test_training_learns_both_parts(whole: Trained) -> None:
    pipeline, losses = whole
    torch.manual_seed(3)
    untrained = networks(build_generator(words(), TINY.shape))

    assert {part: len(table) for part, table in losses.items()} == {"autoencoder": 3, "denoiser": 4}
    assert pipeline.vae.config.scaling_factor != untrained["vae"].config.scaling_factor
    for name, network in networks(pipeline).items():
        before = dict(untrained[name].named_parameters())
        assert any(not torch.equal(p, before[key]) for key, p in network.named_parameters()), name


def test_training_goes_on_where_it_paused(whole: Trained, tmp_path: Path) -> None:
    states = Checkpoints(tmp_path / "states", deadline=1e-9)
    stops, written = [], []
    for _ in range(9):
        torch.rand(2)  # what a new process drew before must not matter
        try:
            resumed = train(states)
            break
        except Paused as stop:
            stops.append((str(stop).split("'")[1], stop.done))
            written.append(states.of("autoencoder").path.stat().st_mtime_ns)

    # The third call ends the autoencoder and goes on to the denoiser.
    assert stops == [("autoencoder", 1), ("autoencoder", 2), *[("denoiser", n) for n in (1, 2, 3)]]
    assert len(set(written[2:])) == 1
    assert_same(whole, resumed)


def test_finished_parts_are_not_trained_again(
    whole: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = Checkpoints(tmp_path / "states")
    train(states)

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("a step was taken")

    monkeypatch.setattr(torch.optim.AdamW, "step", never)
    assert_same(whole, train(states))
