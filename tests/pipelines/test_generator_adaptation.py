"""The stage uses an adapter made elsewhere, if it fits."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import miniatures
from tckr.diffusion.lora import Adapter
from tckr.diffusion.options import AdaptationOptions, SamplingOptions
from tckr.engine.checkpoint import Checkpoint, Checkpoints
from tckr.engine.once_saved import saved
from tckr.errors import UserError
from tckr.images.tensors import to_png
from tckr.options import Schedule
from tckr.pipelines.generator_adaptation.nodes import (
    adapt_generator,
    draw_adaptation_curve,
    draw_adaptation_sheet,
)

LAYER = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


def private(count: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Images and captions of so many members."""
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (count, 1, 16, 16), dtype=torch.uint8)
    ids, names = [str(i) for i in range(count)], ["bag", "boot"] * (count // 2)
    columns = {"image_id": ids, "class_name": names}
    images = pd.DataFrame({**columns, "label": [0, 1] * (count // 2), "image": to_png(pixels)})
    return images, pd.DataFrame({**columns, "prompt": names})


@pytest.mark.parametrize("width", [32, 33])
def test_an_adapter_made_elsewhere_takes_the_place_of_training(tmp_path: Path, width: int) -> None:
    foreign = Adapter(
        {
            f"{LAYER}.lora_A.weight": torch.ones(2, width),
            f"{LAYER}.lora_B.weight": torch.ones(32, 2),
        }
    )
    foreign.save(tmp_path / "lora")
    options = AdaptationOptions(
        generator=str(miniatures.save_generator(tmp_path / "generator")),
        adapter=str(tmp_path / "lora"),
        schedule=Schedule(steps=1, batch_size=1, learning_rate=1),
    )
    images, captions = private(2)
    if width != 32:
        with pytest.raises(UserError, match="do not fit"):
            adapt_generator(images, captions, options, 0)
        return
    adapter, losses, _ = adapt_generator(images, captions, options, 0)
    assert adapter.weights.keys() == foreign.weights.keys()
    assert losses.empty
    assert draw_adaptation_curve(losses).width > 0


def test_a_killed_adaptation_goes_on_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same adapter as without the kill, and a picture of its progress; another seed starts anew."""
    images, captions = private(6)
    options = AdaptationOptions(
        generator=str(miniatures.save_generator(tmp_path / "generator")),
        rank=1,
        sheet_every=12,
        sheet_sampling=SamplingOptions(steps=1, guidance_scale=1),
        checkpoints=str(tmp_path / "unfinished"),
        schedule=Schedule(steps=24, batch_size=2, learning_rate=1e-2),
    )
    plain = options.model_copy(update={"checkpoints": None})
    expected, curve, _ = adapt_generator(images, captions, plain, 0)

    at_every_step = lambda self, part: Checkpoint(self.folder / f"{part}.checkpoint", every=0.0)  # noqa: E731
    monkeypatch.setattr(Checkpoints, "of", at_every_step)
    saves = []
    original = Checkpoint.save

    def killed(self: Checkpoint, *arguments: Any) -> None:
        original(self, *arguments)
        saves.append(self.path)
        if len(saves) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        adapt_generator(images, captions, options, 0)
    adapter, losses, progress = adapt_generator(images, captions, options, 0)
    for name, weights in expected.weights.items():
        assert torch.equal(adapter.weights[name], weights), name
    pd.testing.assert_frame_equal(losses, curve)
    assert progress.height > 100
    saves.clear()
    with pytest.raises(KeyboardInterrupt):
        adapt_generator(images, captions, options, 1)
    assert len(list((tmp_path / "unfinished").rglob("*.checkpoint"))) == 2
    saved()
    assert draw_adaptation_sheet(images, captions, adapter, options, 0).height > 100
    # Its own checkpoint is gone, that of the other seed stays.
    assert list((tmp_path / "unfinished").rglob("*.checkpoint")) == [saves[-1]]
