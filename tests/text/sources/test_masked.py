"""The shipped masked language model as a source of text: random prompts of the grammar, and variations of them."""

from pathlib import Path

import pytest

from tckr.text.sources.base import TextSource
from tckr.text.sources.options import TextSourceOptions
from tckr.text.sources.registry import text_source
from tckr.text.vocabulary import SHIPPED

MASKED = Path(__file__).parents[3] / "data/06_models/foundation/masked"
ODD = "T-shirt/top: long: sleeves"


@pytest.fixture(scope="module")
def source() -> TextSource:
    return text_source(TextSourceOptions(model=str(MASKED)))


def test_random_prompts_are_sentences_of_the_grammar_that_differ(source: TextSource) -> None:
    prompts = source.random("Bag", 40, seed=0)
    captions = [prompt.removeprefix("Bag: ") for prompt in prompts]
    assert (SHIPPED.values(captions) >= 0).all()
    assert len(set(prompts)) == 40
    assert source.random("Bag", 40, seed=0) == prompts != source.random("Bag", 40, seed=1)


def test_variations_keep_the_class_and_change_some_words(source: TextSource) -> None:
    prompts = [*source.random("Bag", 10, seed=0), *source.random(ODD, 10, seed=1)]
    names = ["Bag"] * 10 + [ODD] * 10
    varied = source.vary(prompts, names, seed=2)
    assert all(text.startswith(f"{name}: ") for text, name in zip(varied, names, strict=True))
    assert sum(text != prompt for text, prompt in zip(varied, prompts, strict=True)) >= 18
    shared = [len(set(a.split()) & set(b.split())) for a, b in zip(varied, prompts, strict=True)]
    assert min(shared) >= 6  # half of the words stay
    # The model has learnt the grammar: most slots still say one of their words.
    captions = [text.partition(": ")[2] for text in varied[:10]]
    assert (SHIPPED.values(captions) >= 0).mean() > 0.8
