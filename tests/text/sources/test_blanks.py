"""What a language model is asked, and what is made of whatever it answers."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tckr.engine.released import Released, UnreleasedTextError, check_released, public, release
from tckr.text.sources.blanks import (
    BLANK,
    as_text,
    blanked,
    cleaned,
    random_messages,
    variation_messages,
)
from tckr.text.sources.options import ChatOptions

OPTIONS = ChatOptions(domain="drawing")
PROMPT = "Bag: small tall grey solid shape, wedge hollow outline, on plain white background"


def drawn(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_about_the_published_half_of_the_words_is_blanked() -> None:
    text = " ".join(["word"] * 10_000)
    assert blanked(text, 0.5, drawn()).count(BLANK) == pytest.approx(5000, abs=200)


@given(st.text(max_size=80), st.floats(0.01, 1), st.integers(0, 5))
def test_blanks_take_words_and_nothing_else(text: str, share: float, seed: int) -> None:
    found = blanked(text, share, drawn(seed))
    assert BLANK in found
    kept = re.sub(r"[\W_]+", " ", found).split()
    assert set(kept) <= set(re.sub(r"[\W_]+", " ", text).split())


def test_a_variation_is_asked_for_after_two_worked_examples_in_so_many_words() -> None:
    (prompt,) = release([PROMPT], "public")
    exact = OPTIONS.model_copy(update={"words_spread": 0.0})
    messages = variation_messages(prompt, "Bag", 0.5, exact, drawn())
    assert [one["role"] for one in messages] == ["user", "assistant"] * 2 + ["user"]
    assert f"exactly {len(PROMPT.split()) - 1} words" in messages[-1]["content"]
    for ask, answer in ((messages[0], messages[1]), (messages[2], messages[3])):
        # Each example fills all of its blanks in, with as many words as it asks for.
        assert f"exactly {len(answer['content'].split())} words" in ask["content"]
        assert BLANK not in answer["content"]
        pattern = re.escape(ask["content"].rpartition("Caption: ")[2]).replace(BLANK, r"\S+( \S+)?")
        assert re.fullmatch(pattern, answer["content"])


def test_the_number_of_words_stays_within_its_bounds() -> None:
    (prompt,) = release([PROMPT], "public")
    wild = OPTIONS.model_copy(update={"words_spread": 500.0})
    asked = {
        int(re.findall(r"exactly (\d+) words", one[-1]["content"])[0])
        for one in (variation_messages(prompt, "Bag", 0.5, wild, drawn(seed)) for seed in range(40))
    }
    assert asked >= {OPTIONS.min_words, OPTIONS.max_words}
    assert min(asked) == OPTIONS.min_words
    assert max(asked) == OPTIONS.max_words


def test_a_plain_prompt_is_no_variation_s_origin() -> None:
    with pytest.raises(UnreleasedTextError):
        variation_messages(Released(PROMPT) + "", "Bag", 0.5, OPTIONS, drawn())  # type: ignore[arg-type]


def test_random_requests_differ_and_name_class_and_domain() -> None:
    asked = {str(random_messages("Bag", OPTIONS, drawn(seed))[0]["content"]) for seed in range(50)}
    assert len(asked) > 30
    assert all("Bag" in one and "drawing" in one for one in asked)


def test_all_that_is_asked_may_leave() -> None:
    (prompt,) = release([PROMPT], "public")
    check_released(variation_messages(prompt, "Bag", 0.5, OPTIONS, drawn()))
    check_released(random_messages("Bag", OPTIONS, drawn()))


@pytest.mark.parametrize(
    ("answer", "meant"),
    [
        ("a small red bag.", "a small red bag"),
        ("  A  small\tred bag  \n\nLet me know if you need more!", "A small red bag"),
        ("Caption: a small red bag", "a small red bag"),
        ("Sure! Here it is:\n\n1. a small red bag", "a small red bag"),
        ("<think>a bag, but\nwhich?</think>\n\na small red bag", "a small red bag"),
        ("bag: a small red bag", "a small red bag"),
        ("Bag: Caption: “a small red bag”", "a small red bag"),
        ("a bag with a sign: stop", "a bag with a sign: stop"),
        ("", None),
        ("\n\n", None),
        ("<think>never ends", None),
        ("a small _ bag", None),
        ("I'm sorry, but I can't help with that.", None),
        ("12 34 56", None),
        ("word", None),
        ("word " * 300, None),
        ("x" * 4000 + " y", None),
        ("a bag \x00 with a control character", None),
    ],
)
def test_an_answer_is_read_for_its_one_description(answer: str, meant: str | None) -> None:
    assert cleaned(answer, "Bag", OPTIONS) == meant


@given(st.text(max_size=300))
def test_whatever_is_answered_a_description_is_one_clean_line(answer: str) -> None:
    found = cleaned(answer, "Bag", OPTIONS)
    if found is not None:
        assert found == " ".join(found.split())
        assert found.isprintable()
        assert BLANK not in found


def test_a_conversation_becomes_text_whose_answer_is_the_next_line() -> None:
    text = as_text(
        [
            {"role": public("user"), "content": public("first\nask")},
            {"role": public("assistant"), "content": public("answer")},
            {"role": public("user"), "content": public("second")},
        ]
    )
    assert text == "Request: first ask\nAnswer: answer\n\nRequest: second\nAnswer:"
