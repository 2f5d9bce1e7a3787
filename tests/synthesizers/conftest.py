"""A tiny generator, a tiny captioner and private images of two classes."""

from pathlib import Path

import pytest
import torch

import miniatures
from tckr.diffusion.options import AdaptationOptions, SamplingOptions
from tckr.options import Schedule
from tckr.synthesizers.private_set import PrivateSet
from tckr.synthesizers.tckr import TCKR, TckrRecyclingOptions
from tckr.text.options import CaptionOptions

CLASSES = ("bag", "boot", "coat")


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with `generator` and `captioner`."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    miniatures.save_generator(folder / "generator")
    miniatures.save_captioner(folder / "captioner")
    return folder


@pytest.fixture(scope="session")
def private() -> PrivateSet:
    """24 images of noise; no image has the class in the middle."""
    pixels = torch.randint(0, 256, (24, 1, 16, 16), generator=torch.Generator().manual_seed(0))
    return PrivateSet(pixels.to(torch.uint8), 2 * (torch.arange(24) % 2), CLASSES)


@pytest.fixture(scope="session")
def arm(models: Path) -> TCKR:
    """TCKR in a few steps of tiny models."""
    return TCKR(
        captioning=CaptionOptions(
            captioner=str(models / "captioner"), max_new_tokens=6, batch_size=8
        ),
        generator_adaptation=AdaptationOptions(
            generator=str(models / "generator"),
            rank=2,
            schedule=Schedule(steps=4, batch_size=4, learning_rate=1e-2),
        ),
        knowledge_recycling=TckrRecyclingOptions(
            sampling=SamplingOptions(steps=2, guidance_scale=1.0, batch_size=8)
        ),
    )
