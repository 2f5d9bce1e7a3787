"""Prompts by a causal language model of transformers on this machine: Llama, Qwen, Gemma and others, as safetensors."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from tckr.engine.loading import OFFLINE, SAFE, check_kind, download, readable
from tckr.engine.progress import track
from tckr.engine.seeds import derive
from tckr.engine.untrusted import check_no_code
from tckr.engine.weights import find_variant, local_folder
from tckr.errors import UserError
from tckr.text.options import Precision
from tckr.text.sources.blanks import as_text
from tckr.text.sources.chat import ChatSource, Question
from tckr.text.sources.options import TextSourceOptions

MEANING = "a transformers causal language model with its tokenizer and safetensors weights"


class Causal(NamedTuple):
    """A causal language model with its tokenizer, which pads on the left."""

    model: Any
    tokenizer: Any


def kinds() -> set[str]:
    """Return every `model_type` of a causal language model of transformers.

    >>> {"llama", "qwen2", "gpt2"} <= kinds()
    True
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def load(source: str, device: str = "cpu", dtype: Precision = "auto") -> Causal:
    """Load a causal language model, offline, safetensors only, without code of its folder.

    Args:
        source: a local folder, or a hub id that is already in the local cache.
        dtype: of the weights; auto is float32 on a CPU, bfloat16 on a GPU.

    Raises:
        UserError: the folder is missing, incomplete, brings code along, or holds another kind of model.
    """
    remedy = download(source, "text.model", MEANING)
    check_kind(source, "model_type", kinds(), remedy)
    if (folder := local_folder(source)) is not None:
        check_no_code(folder)
    if dtype == "auto":
        dtype = "float32" if device == "cpu" else "bfloat16"
    with readable(f"Language model '{source}'", remedy):
        model = AutoModelForCausalLM.from_pretrained(
            source, dtype=getattr(torch, dtype), variant=find_variant(source), **SAFE
        )
        tokenizer = AutoTokenizer.from_pretrained(source, padding_side="left", **OFFLINE)
    if not len(tokenizer) or len(tokenizer) > model.get_input_embeddings().num_embeddings:
        raise UserError(f"The tokenizer of '{source}' is not that of the model.", remedy)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token_id is None:
        raise UserError(f"The tokenizer of '{source}' names no end of a text (eos_token).", remedy)
    return Causal(model.to(device).eval().requires_grad_(False), tokenizer)


class CausalSource(ChatSource):
    """A model on this machine, asked by its tokenizer's chat template, or in plain text where it has none.

    The same seed and batch size give the same prompts.
    """

    def __init__(self, options: TextSourceOptions, device: str = "cpu") -> None:
        """Load the model.

        Raises:
            UserError: it cannot be loaded.
        """
        super().__init__(options)
        self._causal = load(str(options.model), device, options.dtype)

    def answer(self, questions: Sequence[Question]) -> Sequence[str]:
        """Return the answer to each question, sampled at `temperature`.

        Raises:
            UserError: a question is longer than the model reads.
        """
        size = self._options.batch_size
        answers: list[str] = []
        for start in track(range(0, len(questions), size), "prompts"):
            answers += self._batch(questions[start : start + size])
        return answers

    @torch.inference_mode()
    def _batch(self, questions: Sequence[Question]) -> list[str]:
        model, tokenizer = self._causal
        texts = [self.wording(question) for question in questions]
        chat = bool(tokenizer.chat_template)
        # A chat template writes the special tokens itself.
        coded = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=not chat)
        self._check_length(coded.input_ids.shape[1])
        devices = [model.device] if model.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(derive(0, *(question.seed for question in questions)))
            written = model.generate(
                input_ids=coded.input_ids.to(model.device),
                attention_mask=coded.attention_mask.to(model.device),
                generation_config=self._settings(None if chat else ["\n"]),
                tokenizer=tokenizer,
            )
        new = written[:, coded.input_ids.shape[1] :]
        decoded: list[str] = tokenizer.batch_decode(new, skip_special_tokens=True)
        return decoded

    def wording(self, question: Question) -> str:
        """Return what the model reads."""
        tokenizer = self._causal.tokenizer
        if not tokenizer.chat_template:
            return as_text(question.messages)
        # enable_thinking: templates of models that think aloud (Qwen3) read it, the others do not.
        written: str = tokenizer.apply_chat_template(
            [{key: str(value) for key, value in one.items()} for one in question.messages],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,
        )
        return written

    def _settings(self, stop_strings: list[str] | None) -> GenerationConfig:
        """Return how to sample; of the model's own settings only the ends of an answer count."""
        model, tokenizer = self._causal
        end = model.generation_config.eos_token_id
        return GenerationConfig(
            do_sample=True,
            temperature=self._options.temperature,
            top_k=0,
            top_p=1.0,
            max_new_tokens=self._options.chat.max_tokens,
            stop_strings=stop_strings,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id if end is None else end,
        )

    def _check_length(self, length: int) -> None:
        longest = getattr(self._causal.model.config, "max_position_embeddings", None)
        wanted = length + self._options.chat.max_tokens
        if isinstance(longest, int) and wanted > longest:
            raise UserError(
                f"{self._options.model} reads {longest:,} tokens, but two worked examples, a prompt and its answer take"
                f" {wanted:,}.",
                "take a model that reads more, or lower chat.max_tokens.",
            )
