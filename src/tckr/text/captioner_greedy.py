"""Greedy words of BLIP-2 without transformers' `generate`, as one recorded piece of GPU work a batch.

`generate` launches some thousand kernels a word from Python and asks the GPU after each word whether all captions have
ended. A batch of hundreds hardly ever ends early: all words are written, and what follows an end is blanked.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicLayer, GenerationConfig

# What a generation_config.json may set without changing which words are written greedily.
HARMLESS = {
    "bos_token_id", "cache_implementation", "eos_token_id", "max_length", "max_new_tokens", "pad_token_id",
    "temperature", "top_k", "top_p", "transformers_version", "use_cache", "_from_model_config",
}  # fmt: skip
WARM_UP = 2  # calls before recording, so that every library has what it needs


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
        self._recorded: _Recorded | None = None

    def __call__(self, pixels: Tensor, record: bool = False) -> Tensor:
        """Tokens, int64 (B, words), on the device, perhaps still being computed; blanks behind an end.

        Args:
            pixels: what the processor makes of B images, on the device.
            record: on a GPU, record the work for batches of this size, or use what was recorded.
        """
        features = self.model.get_image_features(pixels, return_dict=True).pooler_output
        if not record:
            return self._write(features)
        if self._recorded is None or self._recorded.shape != features.shape:
            self.forget()  # before the next is recorded
            self._recorded = _Recorded(self._write, features)
        return self._recorded(features)

    def forget(self) -> None:
        """Give the memory of the recorded batch back."""
        self._recorded = None

    def _write(self, features: Tensor) -> Tensor:
        """The words after image features (B, Q, width)."""
        language = self.model.language_model
        embeddings = language.get_input_embeddings()
        image = self._prompt[0] == self.model.config.image_token_id
        told = embeddings(self._prompt).expand(len(features), -1, -1)
        told = told.masked_scatter(image[None, :, None], features.to(told.dtype))
        length = self._prompt.shape[1] + self.words
        layers = language.config.get_text_config().num_hidden_layers
        cache = Cache(layers=[Reserved(length) for _ in range(layers)])
        inputs: dict[str, Tensor] = {"inputs_embeds": told}
        written: list[Tensor] = []
        for _ in range(self.words):
            logits = language(
                **inputs, past_key_values=cache, use_cache=True, logits_to_keep=1
            ).logits
            written.append(logits[:, -1].argmax(-1, keepdim=True))
            inputs = {"input_ids": written[-1]}
        tokens = torch.cat(written, 1)
        ended = torch.isin(tokens, self._ends).cumsum(1)
        ended[:, 1:] = ended[:, :-1].clone()
        ended[:, 0] = 0
        return tokens.masked_fill(ended > 0, self._blank)


class _Recorded:
    """A function of one tensor as a CUDA graph."""

    def __init__(self, function: Any, example: Tensor) -> None:
        self.shape = example.shape
        self._input = example.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                function(self._input)
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.empty_cache()  # the recorded work has memory of its own
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._output = function(self._input)

    def __call__(self, values: Tensor) -> Tensor:
        self._input.copy_(values)
        self._graph.replay()
        return self._output.clone()
