"""Captioning with a real BLIP-2 of random weights."""

from pathlib import Path

import pytest
import torch

import miniatures
from tckr.errors import UserError
from tckr.foundation.attributes import describe
from tckr.foundation.captioner import CaptionerShape, ClipShape, SeeingRecipe, train_captioner
from tckr.foundation.tokenizer import encode, train_tokenizer
from tckr.options import Schedule
from tckr.text.captioner import caption, captions_table, load, tidy
from tckr.text.options import CaptionOptions


def test_captions_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    captioner = load(str(miniatures.save_captioner(tmp_path)))
    images = torch.randint(0, 256, (5, 1, 28, 28), dtype=torch.uint8)
    together, alone = (
        caption(captioner, images, CaptionOptions(captioner=".", max_new_tokens=6, batch_size=size))
        for size in (5, 2)
    )
    assert len(together) == 5
    assert together == alone


def test_captions_do_not_depend_on_who_writes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captioner = load(str(miniatures.save_captioner(tmp_path)))
    images = torch.randint(0, 256, (6, 1, 28, 28), dtype=torch.uint8)
    options = CaptionOptions(captioner=".", max_new_tokens=6, batch_size=2, shard=2)
    alone = caption(captioner, images, options)
    # Two processes of the CPU, as one for each of two GPUs.
    monkeypatch.setattr("tckr.text.captioner.resolve_workers", lambda: (2, []))
    assert caption(captioner, images, options) == alone


def test_a_captioner_learns_to_tell_black_from_white() -> None:
    images = torch.cat([torch.zeros(8, 3, 16, 16), torch.full((8, 3, 16, 16), 255)]).to(torch.uint8)
    images[:, :, 4:12, 4:12] = 127
    texts = describe(images)
    words = train_tokenizer(texts, 620, 48)
    recipe = SeeingRecipe(
        captioner=CaptionerShape(image_size=16, vision_layers=1, query_layers=1, text_layers=1),
        captioner_schedule=Schedule(steps=60, batch_size=8, learning_rate=3e-3),
        clip=ClipShape(),
        clip_schedule=Schedule(steps=1, batch_size=2, learning_rate=1e-3),
    )
    _, losses = train_captioner(images, encode(words, texts), words, recipe, "cpu", 0)
    assert losses.loss.iloc[-1] < 0.5 * losses.loss.iloc[0]


def test_other_models_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match=r"holds bert.*captioning\.captioner"):
        load(str(tmp_path))
    with pytest.raises(UserError, match="could not be loaded"):
        load(str(tmp_path / "missing"))


def test_prompts_name_the_class_first() -> None:
    table = captions_table(["1a"], ["Bag"], ["a small bag"])
    assert table.prompt.tolist() == ["Bag: a small bag"]


def test_tidy() -> None:
    assert tidy(" A dog ,  on\ngrass . ") == "a dog, on grass."
