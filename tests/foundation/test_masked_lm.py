"""A BERT learns real captions, and fills in the words that are taken out."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from transformers import BertForMaskedLM, BertModel, BertTokenizer, pipeline

from tckr.engine.checkpoint import Checkpoint
from tckr.errors import Paused, UserError
from tckr.foundation.attributes import describe
from tckr.foundation.masked_lm import (
    MaskedRecipe,
    MaskedShape,
    WordMasks,
    train_masked,
    train_masked_tokenizer,
)
from tckr.foundation.tokenizer import encode
from tckr.images.tensors import to_tensor
from tckr.options import Schedule
from tckr.text.masked import Masked, load, vary

SAMPLE = Path(__file__).parents[2] / "data/01_raw/fashion_mnist/fashion_mnist_sample.parquet"
SHAPE = MaskedShape(vocabulary=400, max_length=48, width=32, layers=1, heads=2)


def recipe(steps: int) -> MaskedRecipe:
    return MaskedRecipe(
        shape=SHAPE, schedule=Schedule(steps=steps, batch_size=16, learning_rate=1e-2)
    )


@pytest.fixture(scope="module")
def prompts() -> list[str]:
    table = pd.read_parquet(SAMPLE).head(300)
    images = to_tensor(image["bytes"] for image in table.image).expand(-1, 3, -1, -1)
    return [f"{n}: {c}" for n, c in zip(table.label, describe(images), strict=True)]


@pytest.fixture(scope="module")
def trained(prompts: list[str]) -> tuple[Masked, pd.DataFrame]:
    tokenizer = train_masked_tokenizer(prompts, SHAPE)
    model, losses = train_masked(encode(tokenizer, prompts), tokenizer, recipe(120), "cpu", 0)
    return Masked(model, tokenizer), losses


@pytest.fixture(scope="module")
def folder(trained: tuple[Masked, pd.DataFrame], tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("masked")
    (model, tokenizer), _ = trained
    model.save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


def test_it_learns_the_captions(trained: tuple[Masked, pd.DataFrame]) -> None:
    losses = trained[1].loss
    assert losses.tail(10).mean() < 0.5 * losses.iloc[0]


def test_the_tokenizer_is_the_same_each_time_and_spells_any_word(prompts: list[str]) -> None:
    odd = [*prompts, "4æ4 øxæø æøđ xđŋ"]
    first, second = (train_masked_tokenizer(odd, SHAPE) for _ in range(2))
    assert first.get_vocab() == second.get_vocab()
    assert 200 < len(first) <= SHAPE.vocabulary
    assert first.unk_token_id not in first("Zyzzyva's qu33n/x-ray").input_ids


def test_training_goes_on_where_it_paused(prompts: list[str], tmp_path: Path) -> None:
    tokenizer = train_masked_tokenizer(prompts, SHAPE)
    tokens = encode(tokenizer, prompts)
    whole, losses = train_masked(tokens, tokenizer, recipe(4), "cpu", 0)
    pause = Checkpoint(tmp_path / "state", deadline=1e-9)
    with pytest.raises(Paused):
        train_masked(tokens, tokenizer, recipe(4), "cpu", 0, pause)
    rest = Checkpoint(tmp_path / "state")
    resumed, same = train_masked(tokens, tokenizer, recipe(4), "cpu", 0, rest)
    pd.testing.assert_frame_equal(losses, same, check_exact=True)
    assert all(map(torch.equal, whole.parameters(), resumed.parameters()))


def test_whole_words_are_masked_and_special_tokens_never(prompts: list[str]) -> None:
    tokenizer = train_masked_tokenizer(prompts, SHAPE)
    torch.manual_seed(0)
    sentences = ["unforeseen zyzzyva", *prompts[:200], ""]
    tokens = encode(tokenizer, sentences)
    masked = WordMasks(tokenizer, "cpu")(tokens)
    words = [tokenizer(sentence, padding="max_length").word_ids() for sentence in sentences]
    shares = []
    for row, word in zip(masked.tolist(), words, strict=True):
        chosen = {w for w, m in zip(word, row, strict=True) if m}
        assert None not in chosen
        assert row == [w in chosen for w in word]
        shares.append(len(chosen) / max(1, len({*word} - {None})))
    assert min(shares[:-1]) > 0
    assert shares[-1] == 0
    assert 0.25 < sum(shares[1:-1]) / 200 < 0.4
    assert 0.05 < torch.tensor(shares[1:-1]).std() < 0.2  # drawn anew for each sentence


def test_variations_keep_the_class_and_change_the_share(
    prompts: list[str], trained: tuple[Masked, pd.DataFrame]
) -> None:
    varied = vary(*trained[0], prompts[:100], 0.4, 3.0, seed=1)
    changed = words = 0
    for before, after in zip(prompts, varied, strict=False):
        assert after.split(": ")[0] == before.split(": ")[0]
        olds, news = (text.split(": ")[1].replace(",", " ,").split() for text in (before, after))
        assert len(olds) == len(news)
        assert [w == "," for w in olds] == [w == "," for w in news]
        changed += sum(old != new for old, new in zip(olds, news, strict=True))
        words += sum(old != "," for old in olds)
    assert 0.28 < changed / words <= 0.42  # a word may be filled in by itself


def test_variations_follow_the_seed_and_the_temperature(
    prompts: list[str], trained: tuple[Masked, pd.DataFrame]
) -> None:
    few = prompts[:10]
    assert vary(*trained[0], few, 0.5, 1.0, seed=1) == vary(*trained[0], few, 0.5, 1.0, seed=1)
    assert vary(*trained[0], few, 0.5, 1.0, seed=1) != vary(*trained[0], few, 0.5, 1.0, seed=2)
    assert vary(*trained[0], few, 0.0, 1.0, seed=1) == few

    def distinct(temperature: float) -> int:
        texts = vary(*trained[0], ["Bag: tiny tall red thin shape"] * 40, 1.0, temperature, seed=0)
        return len(set(texts))

    assert distinct(0.01) < distinct(5.0)


def test_what_has_no_words_stays(trained: tuple[Masked, pd.DataFrame]) -> None:
    odd = ["", "Bag: ", "Ankle boot: 12, 漢 -- 3", "T-shirt/top: " + "grey " * 60]
    varied = vary(*trained[0], odd, 1.0, 1.0, seed=0)
    assert varied[:2] == odd[:2]
    assert varied[2].startswith("Ankle boot: 12, ")
    assert varied[3].endswith("grey " * 20)  # beyond the model's length
    assert vary(*trained[0], [], 0.5, 1.0, seed=0) == []


@pytest.mark.parametrize(("share", "temperature"), [(-0.1, 1.0), (1.1, 1.0), (0.5, 0.0)])
def test_values_out_of_range_are_refused(
    share: float, temperature: float, trained: tuple[Masked, pd.DataFrame]
) -> None:
    with pytest.raises(ValueError, match="must lie in"):
        vary(*trained[0], ["a bag"], share, temperature, seed=0)


def test_the_folder_gives_the_model_back(
    prompts: list[str], trained: tuple[Masked, pd.DataFrame], folder: Path
) -> None:
    assert vary(*load(folder), prompts[:20], 0.5, 1.0, 3) == vary(
        *trained[0], prompts[:20], 0.5, 1.0, 3
    )


def test_transformers_own_pipeline_opens_the_folder(prompts: list[str], folder: Path) -> None:
    fill = pipeline("fill-mask", model=str(folder))
    assert isinstance(fill.model, BertForMaskedLM)
    best = fill(prompts[0].replace("background", "[MASK]"))[0]
    assert best["token_str"] == "background"


def test_other_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no model"):
        load(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="not readable"):
        load(tmp_path)
    body = BertModel(BertForMaskedLM.from_pretrained(folder).config)
    body.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="holds BertModel"):
        load(tmp_path)


def test_incomplete_and_pickled_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    model = BertForMaskedLM.from_pretrained(folder)
    model.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="tokenizer"):
        load(tmp_path)
    BertTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    load(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="could not be loaded"):
        load(tmp_path)
