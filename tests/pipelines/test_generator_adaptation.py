"""The stage uses an adapter made elsewhere, if it fits."""

from pathlib import Path

import pandas as pd
import pytest
import torch

import miniatures
from tckr.diffusion.adapt import Adapter
from tckr.diffusion.options import AdaptationOptions
from tckr.errors import UserError
from tckr.options import Schedule
from tckr.pipelines.generator_adaptation.nodes import adapt_generator, draw_adaptation_curve

LAYER = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


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
    nothing = pd.DataFrame()  # neither images nor captions are read
    if width != 32:
        with pytest.raises(UserError, match="do not fit"):
            adapt_generator(nothing, nothing, options, 0)
        return
    adapter, losses = adapt_generator(nothing, nothing, options, 0)
    assert adapter.weights.keys() == foreign.weights.keys()
    assert losses.empty
    assert draw_adaptation_curve(losses).width > 0
