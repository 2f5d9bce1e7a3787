"""Words written in one piece are those of transformers' `generate`."""

from pathlib import Path

import pytest
import torch
from transformers import DynamicCache

import captioners
from tckr.text.captioner import Captioner, caption, load
from tckr.text.decoding import Greedy, Reserved, suits
from tckr.text.options import CaptionOptions

WORDS = 9
PIXELS = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(2))
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture
def captioner(tmp_path: Path) -> Captioner:
    torch.manual_seed(0)
    return load(str(captioners.KINDS["blip-2 with OPT"](tmp_path)))


def start(captioner: Captioner, *words: int) -> torch.Tensor:
    config = captioner.model.config
    image = [config.image_token_id] * config.num_query_tokens
    return torch.tensor([[*image, config.text_config.bos_token_id, *words]])


@torch.inference_mode()
def generated(captioner: Captioner, prompt: torch.Tensor) -> torch.Tensor:
    """Of `generate`, blanks added up to all words."""
    told = prompt.repeat(len(PIXELS), 1)
    tokens = captioner.model.generate(
        pixel_values=PIXELS, input_ids=told, max_new_tokens=WORDS, do_sample=False
    )
    tokens = tokens[:, prompt.shape[1] :]
    blank = captioner.model.language_model.generation_config.pad_token_id
    missing = WORDS - tokens.shape[1]
    return torch.nn.functional.pad(tokens, (0, missing), value=blank)


@pytest.mark.parametrize("words", [(), (5, 6)], ids=["plain", "prompted"])
def test_words_are_those_of_generate(captioner: Captioner, words: tuple[int, ...]) -> None:
    prompt = start(captioner, *words)
    settings = captioner.model.language_model.generation_config
    settings.eos_token_id = None
    endless = generated(captioner, prompt)
    often = endless.flatten().mode().values.item()
    assert (endless == often).any(1).sum() > 1  # some captions end early ...
    for ends in (None, often, [often, int(endless[0, 0])]):
        settings.eos_token_id, settings.pad_token_id = ends, 0
        expected = generated(captioner, prompt)
        with torch.inference_mode():
            assert torch.equal(Greedy(captioner.model, prompt, WORDS)(PIXELS), expected)
    assert (expected[0, 1:] == 0).all()  # ... and blank behind their end


def test_reserved_memory_is_a_growing_cache() -> None:
    reserved, grown = Reserved(6), DynamicCache()
    for length in (3, 1, 1):
        states = torch.randn(2, 2, 4, length, 8)
        left = reserved.update(*states)
        right = grown.update(*states, 0)
        assert all(torch.equal(a, b) for a, b in zip(left, right, strict=True))
        assert reserved.get_seq_length() == grown.get_seq_length()
        assert reserved.get_mask_sizes(1) == grown.get_mask_sizes(1, 0)


def test_only_plain_greedy_models_suit(captioner: Captioner, tmp_path: Path) -> None:
    assert suits(captioner.model)
    captioner.model.language_model.generation_config.repetition_penalty = 1.5
    assert not suits(captioner.model)
    for name in ("blip-2 with T5", "blip", "llava"):
        assert not suits(load(str(captioners.KINDS[name](tmp_path / name))).model)


@GPU
def test_words_of_a_gpu_are_those_of_a_cpu(captioner: Captioner, tmp_path: Path) -> None:
    on_gpu = load(str(tmp_path), "cuda", "float32")
    for channels in (1, 3):
        images = torch.randint(0, 256, (23, channels, 16, 16), dtype=torch.uint8)
        for size in (8, 23):
            options = CaptionOptions(captioner="x", max_new_tokens=WORDS, batch_size=size)
            assert caption(on_gpu, images, options) == caption(captioner, images, options)
