"""The captioning node: members alone, resumed from shards, nothing left behind."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import captioners
from tckr.engine.checkpoint import Checkpoint
from tckr.engine.once_saved import saved
from tckr.images.tensors import to_png
from tckr.pipelines.captioning.nodes import caption_members
from tckr.text.options import CaptionOptions


def test_members_are_captioned_and_shards_removed_when_all_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (6, 1, 16, 16), dtype=torch.uint8)
    table = pd.DataFrame(
        {
            "image_id": list("abcdef"),
            "class_name": ["x", "y"] * 3,
            "label": [0, 1] * 3,
            "split": ["members", "test", "members", "members", "holdout", "members"],
            "image": to_png(images),
        }
    )
    shards = tmp_path / "shards"
    options = CaptionOptions(
        captioner=str(captioners.save_blip(tmp_path / "blip")), max_new_tokens=4, batch_size=2,
        shard=2, checkpoints=str(shards),
    )  # fmt: skip
    original = Checkpoint.save

    def killed(self: Checkpoint, *arguments: Any) -> None:
        original(self, *arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            caption_members(table, options)
    assert [path.name for path in shards.rglob("*.checkpoint")] == ["0000000-0000002.checkpoint"]
    (shards / "other work").mkdir()
    captions = caption_members(table, options)
    assert (
        len(list(shards.rglob("*.checkpoint"))) == 2
    )  # a kill before the table is saved costs nothing
    saved()
    assert captions.image_id.tolist() == ["a", "c", "d", "f"]
    assert captions.prompt[1] == f"x: {captions.caption[1]}"
    assert [path.name for path in shards.rglob("*")] == ["other work"]
