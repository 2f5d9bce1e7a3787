"""Greedy words of BLIP-2 without transformers' `generate`, which wastes time with large batches.

`generate` asks the GPU after each word whether all captions have ended, copies all keys and values for each word, and
multiplies the first word's scores image by image. A batch of hundreds hardly ever ends early: all words are written, and
what follows an end is blanked.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicLayer, GenerationConfig

# What a generation_config.json may set without changing which words are written greedily.
HARMLESS = {
    "bos_token_id", "cache_implementation", "eos_token_id", "max_length", "max_new_tokens", "pad_token_id",
    "temperature", "top_k", "top_p", "transformers_version", "use_cache", "_from_model_config",
}  # fmt: skip


def suits(model: Any) -> bool:
    """Whether this is a BLIP-2 with a decoder-only language model that generates without rules of its own."""
    config = model.config
    if config.model_type != "blip-2" or not config.use_decoder_only_language_model:
        return False
    settings: GenerationConfig = model.language_model.generation_config
    return {name for name, value in settings.to_diff_dict().items() if value} <= HARMLESS


class Reserved(DynamicLayer):
    """Keys and values of one layer in memory that is reserved for all words, so that none is copied for the next."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self._length = length
        self._all: tuple[Tensor, Tensor] | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Add (B, heads, n, width) and return what is there by now."""
        if self._all is None:
            self.lazy_initialization(key_states, value_states)
            batch, heads, _, width = key_states.shape
            shape = (batch, heads, self._length, width)
            self._all = key_states.new_empty(shape), value_states.new_empty(shape)
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        for place, states in zip(self._all, (key_states, value_states), strict=True):
            place[:, :, start:end] = states
        self.keys, self.values = (place[:, :, :end] for place in self._all)
        return self.keys, self.values


class Greedy:
    """Writes the words of a batch of images."""

    def __init__(self, model: Any, prompt: Tensor, words: int) -> None:
        """Take a model that `suits`.

        Args:
            prompt: int64 (1, L): tokens before the caption, those of the image among them.
            words: tokens a caption.
        """
        self.model, self.words = model, words
        self._prompt = prompt.to(model.device)
        settings = model.language_model.generation_config
        ends = settings.eos_token_id
        ends = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
        self._ends = torch.tensor(ends, dtype=torch.int64, device=model.device)
        blank = settings.pad_token_id
        self._blank: int = ends[0] if blank is None and ends else blank or 0

    def __call__(self, pixels: Tensor) -> Tensor:
        """Tokens, int64 (B, words), on the device, perhaps still being computed; blanks behind an end.

        Args:
            pixels: what the processor makes of B images, on the device.
        """
        half = self.model.language_model.dtype != torch.float32
        with _fast_float32(half):
            features = self.model.get_image_features(pixels, return_dict=True).pooler_output
            return self._write(features)

    def _write(self, features: Tensor) -> Tensor:
        """The words after image features (B, Q, width)."""
        language = self.model.language_model
        embeddings = language.get_input_embeddings()
        image = self._prompt[0] == self.model.config.image_token_id
        told = embeddings(self._prompt).expand(len(features), -1, -1)
        told = told.masked_scatter(image[None, :, None], features.to(told.dtype))
        room = self._prompt.shape[1] + self.words
        layers = language.config.get_text_config().num_hidden_layers
        cache = Cache(layers=[Reserved(room) for _ in range(layers)])
        inputs: dict[str, Tensor] = {"inputs_embeds": told}
        written: list[Tensor] = []
        # An index for the last place: a slice of the prompt's would be multiplied image by image.
        last = torch.full((1,), self._prompt.shape[1] - 1, device=told.device)
        for _ in range(self.words):
            out = language(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=last)
            written.append(out.logits[:, -1].argmax(-1, keepdim=True))
            inputs, last = {"input_ids": written[-1]}, last * 0
        tokens = torch.cat(written, 1)
        ended = torch.isin(tokens, self._ends).cumsum(1)
        ended[:, 1:] = ended[:, :-1].clone()
        ended[:, 0] = 0
        return tokens.masked_fill(ended > 0, self._blank)


@contextmanager
def _fast_float32(wanted: bool) -> Iterator[None]:
    """Products of float32 with the precision of float16 (TF32): BLIP-2 keeps its Q-Former in float32 beside float16."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if wanted else before)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
