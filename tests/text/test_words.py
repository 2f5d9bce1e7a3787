"""Words: public cells, a bounded histogram, prompts that say what the class says."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from charged import charged
from tckr.dp import Noise, recorder
from tckr.foundation.attributes import describe
from tckr.text.vocabulary import SHIPPED, Slot, Slots, Topics, Vocabulary
from tckr.text.words import count_words, draw_prompts, words_plan

GRAMMAR = Slots(
    "{size} {colour} {kind}, on {ground}",
    (
        Slot("size", ("small", "large", "very large")),
        Slot("colour", ("red", "blue", "dark blue")),
        Slot("kind", ("bag", "boot")),
        Slot("ground", ("sand", "snow")),
    ),
)
PUBLIC = [
    "small red bag, on sand",
    "large blue boot, on snow",
    "very large dark blue boot, on snow",
] * 5
TREE = GRAMMAR.tree(PUBLIC)
TOPICS = Topics.of(PUBLIC, 3, seed=0)
VOCABULARIES: list[Vocabulary] = [GRAMMAR, TREE, TOPICS]


def shapes(count: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    images = torch.zeros(count, 3, 32, 32, dtype=torch.uint8)
    for number, image in enumerate(images):
        top, left, height, width = torch.randint(1, 16, (4,), generator=draw).tolist()
        image[:] = torch.randint(0, 255, (3, 1, 1), generator=draw)
        image[:, top : top + height, left : left + width] = torch.randint(
            0, 255, (3, 1, 1), generator=draw
        )
        image.add_((torch.rand(3, 32, 32, generator=draw) * 20 * (number % 3)).byte())
    return images


def test_the_grammar_is_the_shipped_captioners() -> None:
    sentences = describe(shapes(200))
    assert (SHIPPED.values(sentences) >= 0).all()
    weights = np.bincount(SHIPPED.read(sentences[:1])[0], minlength=SHIPPED.size).astype(float)
    assert SHIPPED.write(weights, 2, np.random.default_rng(0)) == sentences[:1] * 2


def test_an_unknown_word_loses_its_slot_alone() -> None:
    assert GRAMMAR.values(["small green bag, on snow"]).tolist() == [[0, -1, 0, 1]]
    assert GRAMMAR.values(["no such sentence"]).tolist() == [[-1] * 4]


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_one_image_less_changes_the_histogram_by_no_more_than_charged(data: st.DataObject) -> None:
    vocabulary = data.draw(st.sampled_from(VOCABULARIES))
    sizes, grounds = (
        st.sampled_from(["small", "large", "huge", "very large"]),
        st.sampled_from(["sand", "snow", "mud"]),
    )
    captions = [
        f"{data.draw(sizes)} dark blue boot, on {data.draw(grounds)}"
        for _ in range(data.draw(st.integers(1, 8)))
    ]
    labels = [data.draw(st.integers(0, 2)) for _ in captions]
    entry = charged(words_plan(vocabulary, 1), 3.0)
    with recorder.recording() as first:
        count_words(captions, labels, 3, vocabulary, entry, Noise(seed=0))
    with recorder.recording(replay=first) as second:
        count_words(captions[:-1], labels[:-1], 3, vocabulary, entry, Noise(seed=0))
    assert recorder.check_sensitivity(first, second)["words"] <= vocabulary.named**0.5


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_prompts_say_what_the_class_says(vocabulary: Vocabulary) -> None:
    captions = ["small red bag, on sand"] * 40 + ["large blue boot, on snow"] * 40
    labels = [0] * 40 + [1] * 40
    entry = charged(words_plan(vocabulary, 1), 0.5)
    histogram = count_words(captions, labels, 2, vocabulary, entry, Noise(seed=0))
    prompts = draw_prompts(histogram, ["Bag", "Boot"], 25, seed=0)
    assert prompts["label"].value_counts().tolist() == [13, 12]
    assert prompts["label"].head(10).value_counts().tolist() == [5, 5]
    wanted = {0: "Bag: small red bag, on sand", 1: "Boot: large blue boot, on snow"}
    right = [
        prompt == wanted[label] for prompt, label in zip(prompts.prompt, prompts.label, strict=True)
    ]
    assert np.mean(right) > 0.9


def test_a_tree_keeps_together_what_goes_together() -> None:
    captions = ["small red bag, on sand"] * 50 + ["large blue boot, on snow"] * 50

    def kept(vocabulary: Slots) -> float:
        entry = charged(words_plan(vocabulary, 1), 0.1)
        histogram = count_words(captions, [0] * 100, 1, vocabulary, entry, Noise(seed=0))
        prompts = draw_prompts(histogram, ["Thing"], 200, seed=0).prompt
        return float(prompts.str.removeprefix("Thing: ").isin(captions).mean())

    assert kept(TREE) > 0.95
    assert kept(GRAMMAR) < 0.4
    assert words_plan(TREE, 1).sensitivity == words_plan(GRAMMAR, 1).sensitivity


def test_much_noise_still_gives_prompts() -> None:
    entry = charged(words_plan(SHIPPED, 1), 1000.0)
    histogram = count_words([], [], 3, SHIPPED, entry, Noise(seed=0))
    prompts = draw_prompts(histogram, ["a", "b", "c"], 7, seed=0)
    assert (SHIPPED.values(prompts.prompt.str.split(": ").str[1].tolist()) >= 0).all()


def test_labels_out_of_range() -> None:
    entry = charged(words_plan(GRAMMAR, 1), 1.0)
    with pytest.raises(ValueError, match=r"0\.\.1"):
        count_words(["small red bag, on sand"], [2], 2, GRAMMAR, entry, Noise(seed=0))
