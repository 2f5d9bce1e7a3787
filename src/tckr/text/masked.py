"""Vary sentences by masking some of their words and letting a masked language model fill them in.

This is the variation step of SPTI (Private Evolution on captions, arXiv 2506.07555), which prompts a chat model for it;
here a transformers BertForMaskedLM does it offline.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import BertForMaskedLM, BertTokenizer

from tckr.engine.loading import OFFLINE, SAFE, check_kind, readable
from tckr.engine.progress import track
from tckr.errors import UserError

# Words filled in the same round do not see each other; those of later rounds see the earlier ones.
ROUNDS = 4
REMEDY = (
    "give a folder of a transformers BertForMaskedLM with its tokenizer and safetensors weights."
)


class Masked(NamedTuple):
    """A masked language model with its tokenizer."""

    model: BertForMaskedLM
    tokenizer: BertTokenizer


def load(folder: str | Path, device: str = "cpu") -> Masked:
    """Load a masked language model, safetensors only, float32.

    Raises:
        UserError: the folder is missing, incomplete, or holds another kind of model.
    """
    # Another BERT would load too, with a head of random weights.
    check_kind(folder, "architectures", ["BertForMaskedLM"], REMEDY)
    with readable(f"Masked language model {folder}", REMEDY):
        model = BertForMaskedLM.from_pretrained(folder, dtype=torch.float32, **SAFE)
        tokenizer = BertTokenizer.from_pretrained(folder, **OFFLINE)
    if len(tokenizer) != model.config.vocab_size:  # a folder without a tokenizer gives an empty one
        raise UserError(f"Folder {folder} lacks the model's tokenizer.", REMEDY)
    return Masked(model.to(device).eval(), tokenizer)


class _Gaps(NamedTuple):
    """A sentence with some words masked."""

    ids: list[int]  # its tokens, one mask per masked word
    places: list[int]  # positions of the masks in `ids`, in random order
    spans: list[tuple[int, int]]  # the same words, as ranges of characters


@torch.inference_mode()
def vary(
    model: BertForMaskedLM,
    tokenizer: BertTokenizer,
    sentences: Sequence[str],
    share: float,
    temperature: float,
    seed: int,
    batch_size: int = 128,
) -> list[str]:
    """Replace some words of each sentence by words that the model finds likely in their place.

    Everything up to the first ": " (the class name of a prompt) stays, as do numbers, punctuation and whatever
    exceeds the model's length. A word may be replaced by itself.

    Args:
        share: fraction of the words to mask, 0..1, rounded to whole words for each sentence.
        temperature: above 0; 1 samples from the model's distribution, less prefers the likeliest words.
        seed: of the choice of words and of the samples.
        batch_size: sentences per forward pass.

    Returns:
        One sentence per input, in their order; the same for the same seed and batch size.

    Raises:
        ValueError: share or temperature out of range.

    >>> masked = load("data/06_models/foundation/masked")
    >>> vary(masked.model, masked.tokenizer, ["Bag: a small solid shape"], 0.5, 1.0, seed=0)[0][:5]
    'Bag: '
    """
    if not 0 <= share <= 1 or temperature <= 0:
        raise ValueError(f"share {share} must lie in 0..1, temperature {temperature} above 0")
    draw = torch.Generator().manual_seed(seed)
    names = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    barred = torch.tensor([not name.isalpha() for name in names])  # pieces, special, punctuation
    varied: list[str] = []
    for start in track(range(0, len(sentences), batch_size), "variations"):
        part = sentences[start : start + batch_size]
        gaps = [_take_out(tokenizer, sentence, share, draw) for sentence in part]
        filled = _fill(model, tokenizer, gaps, barred, temperature, draw)
        for sentence, gap, ids in zip(part, gaps, filled, strict=True):
            words = [names[ids[place]] for place in gap.places]
            varied.append(_put_in(sentence, gap.spans, words))
    return varied


def _take_out(
    tokenizer: BertTokenizer, sentence: str, share: float, draw: torch.Generator
) -> _Gaps:
    coded = tokenizer(sentence, truncation=True, max_length=tokenizer.model_max_length)
    begin = sentence.find(": ") + 2 if ": " in sentence else 0
    words = coded.word_ids()
    spans = {word: tuple(coded.word_to_chars(word)) for word in words if word is not None}
    free = [w for w, (s, e) in spans.items() if s >= begin and sentence[s:e].isalpha()]
    order = torch.randperm(len(free), generator=draw).tolist()
    out = [free[index] for index in order[: round(share * len(free))]]
    ids: list[int] = []
    place = {}
    for token, word in zip(coded.input_ids, words, strict=True):
        if word not in out:
            ids.append(token)
        elif word not in place:  # one mask, however many tokens the word had
            place[word] = len(ids)
            ids.append(tokenizer.mask_token_id)
    return _Gaps(ids, [place[word] for word in out], [spans[word] for word in out])


def _fill(
    model: BertForMaskedLM,
    tokenizer: BertTokenizer,
    gaps: Sequence[_Gaps],
    barred: Tensor,
    temperature: float,
    draw: torch.Generator,
) -> list[list[int]]:
    """Return the token ids of each sentence, its masks filled with samples from the model."""
    rows = [torch.tensor(gap.ids) for gap in gaps]
    ids = torch.nn.utils.rnn.pad_sequence(rows, True, tokenizer.pad_token_id)
    seen = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], True)
    for turn in range(ROUNDS):
        now = [(row, place) for row, gap in enumerate(gaps) for place in gap.places[turn::ROUNDS]]
        if not now:
            break
        where = torch.tensor(now).unbind(1)
        logits = model(ids.to(model.device), attention_mask=seen.to(model.device)).logits
        logits = logits[where].float().cpu().masked_fill(barred, -torch.inf)
        chances = (logits / temperature).softmax(1)
        ids[where] = torch.multinomial(chances, 1, generator=draw)[:, 0]
    return [row.tolist() for row in ids]


def _put_in(sentence: str, spans: Sequence[tuple[int, int]], words: Sequence[str]) -> str:
    for (start, end), word in sorted(zip(spans, words, strict=True), reverse=True):
        sentence = sentence[:start] + word + sentence[end:]
    return sentence
