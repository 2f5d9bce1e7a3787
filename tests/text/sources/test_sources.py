"""Sources of text: two verbs, whatever writes; what was never released goes in nowhere."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tckr.engine.released import UnreleasedTextError, release
from tckr.errors import UserError
from tckr.text.sources.causal import CausalSource, load
from tckr.text.sources.chat import ChatSource, Question
from tckr.text.sources.options import ChatOptions, TextSourceOptions
from tckr.text.sources.registry import text_source
from tckr.text.vocabulary import SHIPPED

MASKED = "data/06_models/foundation/masked"
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<end>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
WORDS = (
    "a",
    "the",
    "small",
    "red",
    "grey",
    "tall",
    "bag",
    "boot",
    "on",
    "plain",
    "white",
    "with",
    "handle",
    "shape",
)


def save_causal(folder: Path, template: str | None = TEMPLATE, positions: int = 2048) -> Path:
    """A Llama of some 10,000 weights that has learned to answer with a few words, saved to `folder`."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=340, special_tokens=["<end>"], initial_alphabet=alphabet
    )
    made.train_from_iterator([f" {' '.join(WORDS)}"] * 9, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>")
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=positions, eos_token_id=0, bos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    model = LlamaForCausalLM(shape)
    draw = np.random.default_rng(0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.03)
    for _ in range(60):
        begin = tokenizer("Write.<|assistant|>" if template else "Write.\nAnswer:").input_ids
        said = [tokenizer(" " + " ".join(draw.choice(WORDS, 12))).input_ids for _ in range(16)]
        length = min(map(len, said))
        ids = torch.tensor([[*begin, *one[:length], 0] for one in said])
        labels = ids.clone()
        labels[:, : len(begin)] = -100
        loss = model(ids, labels=labels).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_causal(tmp_path_factory.mktemp("models") / "causal")


def options(model: Path, **changed: object) -> TextSourceOptions:
    chat = ChatOptions(max_tokens=24, max_words=24)
    return TextSourceOptions.model_validate(
        {"kind": "causal", "model": str(model), "chat": chat, **changed}
    )


class Parrot(ChatSource):
    """Answers with what a test says, in turn."""

    def __init__(self, answers: list[str], **changed: object) -> None:
        super().__init__(TextSourceOptions(model="parrot", chat=ChatOptions(**changed)))
        self.answers, self.seeds = answers, []

    def answer(self, questions: list[Question]) -> list[str]:
        self.seeds += [question.seed for question in questions]
        return [self.answers.pop(0) for _ in questions]


def test_random_prompts_are_of_the_grammar_and_of_no_image() -> None:
    source = text_source(TextSourceOptions(model=MASKED))
    prompts = source.random("Bag", 20, seed=0)
    assert prompts == source.random("Bag", 20, seed=0) != source.random("Bag", 20, seed=1)
    assert (SHIPPED.read([prompt.removeprefix("Bag: ") for prompt in prompts]) >= 0).all()


@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_a_variation_keeps_its_class_and_some_words_and_depends_on_the_seed(
    kind: str, causal: Path
) -> None:
    source = text_source(TextSourceOptions(model=MASKED) if kind == "masked" else options(causal))
    prompts = release(
        ["Bag: small red bag on plain ground", "Coat: tall grey coat on plain ground"], "public"
    )
    varied = source.vary(prompts, ["Bag", "Coat"], seed=0)
    assert varied == source.vary(prompts, ["Bag", "Coat"], seed=0)
    assert varied != source.vary(prompts, ["Bag", "Coat"], seed=1)
    assert [text.partition(": ")[0] for text in varied] == ["Bag", "Coat"]
    assert all(a != b for a, b in zip(varied, prompts, strict=True))


@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_no_source_sees_what_was_never_released(kind: str, causal: Path) -> None:
    source = text_source(TextSourceOptions(model=MASKED) if kind == "masked" else options(causal))
    with pytest.raises(UnreleasedTextError):
        source.vary(["Bag: what one private image shows"], ["Bag"], seed=0)


def test_what_a_source_wrote_may_be_varied_again() -> None:
    source = text_source(TextSourceOptions(model=MASKED))
    prompts = source.random("Bag", 3, seed=0)
    for seed in range(3):
        prompts = source.vary(prompts, ["Bag"] * 3, seed)
    assert all(type(prompt) is str for prompt in prompts)  # as a checkpoint keeps them


def test_a_prompt_of_another_class_is_a_mistake() -> None:
    source = text_source(TextSourceOptions(model=MASKED))
    prompts = source.random("Bag", 1, seed=0)
    with pytest.raises(ValueError, match="name of its class"):
        source.vary(prompts, ["Coat"], seed=0)


def test_random_prompts_of_a_causal_model_are_what_it_wrote(causal: Path) -> None:
    source = text_source(options(causal))
    prompts = source.random("Bag", 5, seed=0)
    assert len(set(prompts)) == 5
    assert {word for prompt in prompts for word in prompt.removeprefix("Bag: ").split()} <= set(
        WORDS
    )


def test_the_chat_template_writes_the_request_where_there_is_one(causal: Path) -> None:
    source = CausalSource(options(causal))
    question = Question([{"role": "user", "content": "ask"}], "Bag", 0)  # type: ignore[dict-item]
    assert source.wording(question) == "<|user|>ask<end><|assistant|>"


def test_plain_text_asks_a_model_without_a_template(tmp_path: Path) -> None:
    source = CausalSource(options(save_causal(tmp_path, template=None)))
    prompts = release(["Bag: small red bag on plain ground"], "public")
    seen = []
    wording = source.wording
    source.wording = lambda question: seen.append(wording(question)) or seen[-1]  # type: ignore[method-assign]
    (varied,) = source.vary(prompts, ["Bag"], seed=0)
    assert varied.startswith("Bag: ")
    assert seen[0].endswith("\nAnswer:")
    assert seen[0].count("Request: ") == 3


def test_a_low_temperature_makes_the_likeliest_words_the_only_ones(causal: Path) -> None:
    cold = [CausalSource(options(causal, temperature=1e-4)).random("Bag", 1, 0) for _ in range(2)]
    assert cold[0] == cold[1]
    warm = CausalSource(options(causal, temperature=1.0)).random("Bag", 4, 0)
    assert len(set(warm)) == 4


def test_prompts_longer_than_the_model_reads_stop_at_once(tmp_path: Path) -> None:
    source = text_source(options(save_causal(tmp_path, positions=128)))
    with pytest.raises(UserError, match="reads 128 tokens"):
        source.random("Bag", 1, seed=0)


def test_code_in_a_model_s_folder_is_refused(tmp_path: Path) -> None:
    folder = save_causal(tmp_path)
    (folder / "modeling.py").write_text("raise SystemExit")
    with pytest.raises(UserError, match="is Python code"):
        load(str(folder))


def test_another_kind_of_model_is_refused() -> None:
    with pytest.raises(UserError, match="holds blip-2"):
        load("data/06_models/foundation/captioner")


def test_the_global_random_state_is_left_alone(causal: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    text_source(options(causal)).random("Bag", 2, seed=0)
    assert torch.rand(1) == expected
    assert AutoTokenizer.from_pretrained(causal, local_files_only=True).chat_template == TEMPLATE


def test_an_unusable_answer_is_asked_for_again_with_another_seed() -> None:
    parrot = Parrot(["", "a good bag"])
    prompts = release(["Bag: a red bag"], "public")
    assert parrot.vary(prompts, ["Bag"], seed=0) == ["Bag: a good bag"]
    assert len(set(parrot.seeds)) == 2
    assert (parrot.asked, parrot.unusable) == (1, 0)


def test_where_no_try_helps_the_prompt_stays_and_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    parrot = Parrot(["", "a good bag", "_ _", "I'm sorry, I can't."])
    prompts = release(["Bag: a red bag", "Bag: a blue bag"], "public")
    with caplog.at_level(logging.WARNING):
        varied = parrot.vary(prompts, ["Bag", "Bag"], seed=0)
    assert varied == ["Bag: a red bag", "Bag: a good bag"]
    assert (parrot.asked, parrot.unusable) == (2, 1)
    assert "1 of 2 prompts got no usable answer" in caplog.text


def test_a_model_that_answers_nothing_usable_stops_the_run() -> None:
    parrot = Parrot([""] * 6)
    prompts = release(["Bag: a red bag", "Bag: a blue bag"], "public")
    with pytest.raises(UserError, match="no usable answer for 2 of 2"):
        parrot.vary(prompts, ["Bag", "Bag"], seed=0)


def test_the_same_prompt_twice_is_asked_for_with_two_seeds_wherever_it_stands() -> None:
    one, other = Parrot(["a b", "c d", "e f"]), Parrot(["a b", "c d"])
    prompts = release(["Bag: a red bag", "Bag: a blue bag"], "public")
    one.vary([prompts[0], prompts[1], prompts[0]], ["Bag"] * 3, seed=0)
    other.vary([prompts[1], prompts[0]], ["Bag"] * 2, seed=0)
    assert len(set(one.seeds)) == 3
    assert set(other.seeds) == set(one.seeds[:2])


def test_options_that_name_no_model_are_refused() -> None:
    with pytest.raises(ValueError, match="masked needs model"):
        TextSourceOptions()
    with pytest.raises(ValueError, match=r"openai needs endpoint\.base_url"):
        TextSourceOptions(kind="openai")
