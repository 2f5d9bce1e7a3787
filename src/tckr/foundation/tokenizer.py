"""Train a small CLIP tokenizer on public sentences."""

import json
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def train_tokenizer(sentences: Iterable[str], vocabulary: int, max_length: int) -> CLIPTokenizer:
    """Train a byte-pair encoding with CLIP's rules; the same sentences give the same tokenizer.

    Args:
        vocabulary: number of tokens, the start and end tokens included.
        max_length: longest prompt, tokens, the start and end tokens included.

    >>> tokenizer = train_tokenizer(["a small bag"] * 9, vocabulary=600, max_length=8)
    >>> tokenizer.decode(encode(tokenizer, ["Small bag"])[0], skip_special_tokens=True)
    'small bag'
    """
    coder = Tokenizer(models.BPE(unk_token=END, end_of_word_suffix="</w>"))
    coder.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    coder.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    sentences, alphabet = list(sentences), pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(alphabet) - 2,
        initial_alphabet=alphabet,
        # Without them, letters that end a word, and merges of equal counts, would be numbered in random order.
        special_tokens=_last_letters(coder, sentences),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    coder.train_from_iterator(sentences, trainer)
    with tempfile.TemporaryDirectory() as folder:
        coder.model.save(folder)
        _complete(Path(folder), alphabet)
        return CLIPTokenizer.from_pretrained(folder, model_max_length=max_length, pad_token=END)


def _last_letters(coder: Tokenizer, sentences: Sequence[str]) -> list[str]:
    """Return the letters that end a word of `sentences`, as tokens, in order."""
    found: set[str] = set()
    for sentence in dict.fromkeys(sentences):
        words = coder.pre_tokenizer.pre_tokenize_str(coder.normalizer.normalize_str(sentence))
        found.update(f"{word[-1]}</w>" for word, _ in words)
    return sorted(found)


def _complete(folder: Path, alphabet: Sequence[str]) -> None:
    """Give every byte an end-of-word form and add the two special tokens last, as CLIP's vocabulary has them."""
    file = folder / "vocab.json"
    tokens = list(json.loads(file.read_text()))
    known = set(tokens)
    tokens += [f"{byte}</w>" for byte in sorted(alphabet) if f"{byte}</w>" not in known]
    tokens += [START, END]
    file.write_text(json.dumps({token: index for index, token in enumerate(tokens)}))


def encode(tokenizer: CLIPTokenizer, sentences: Sequence[str]) -> Tensor:
    """Return token ids, int64 (N, max_length), truncated or padded to the model's length."""
    if not sentences:
        return torch.empty(0, tokenizer.model_max_length, dtype=torch.int64)
    return tokenizer(
        list(sentences), padding="max_length", truncation=True, max_length=tokenizer.model_max_length,
        return_tensors="pt",
    ).input_ids  # fmt: skip
