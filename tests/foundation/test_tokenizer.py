"""The tokenizer spells anything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import CLIPTokenizer

import miniatures
from tckr.foundation.tokenizer import encode, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return miniatures.tokenizer()


def test_rows_start_end_and_have_one_length(tokenizer: CLIPTokenizer) -> None:
    ids = encode(tokenizer, ["a boot", "", "boot " * 99])
    assert ids.shape == (3, 24)
    assert (ids[:, 0] == tokenizer.bos_token_id).all()
    assert (ids[:, -1] == tokenizer.eos_token_id).all()


def test_no_sentence_no_rows(tokenizer: CLIPTokenizer) -> None:
    assert encode(tokenizer, []).shape == (0, 24)


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz äéß漢", min_size=1, max_size=8))
def test_any_text_is_spelt_without_loss(text: str) -> None:
    words = miniatures_tokenizer()
    ids = words(text).input_ids
    assert words.unk_token_id not in ids[1:-1]
    assert words.decode(ids, skip_special_tokens=True).split() == text.split()


def miniatures_tokenizer(made: list[CLIPTokenizer] = []) -> CLIPTokenizer:  # noqa: B006
    """One tokenizer for all examples that hypothesis tries."""
    if not made:
        made.append(miniatures.tokenizer())
    return made[0]


def test_the_same_sentences_give_the_same_tokenizer() -> None:
    sentences = [
        "a small red round shape, on white",
        "a tall grey boot: split top",
        "naïve 42-fold bag!",
    ] * 9
    first, second = (train_tokenizer(iter(sentences), 640, 24) for _ in range(2))
    assert first.backend_tokenizer.to_str() == second.backend_tokenizer.to_str()
