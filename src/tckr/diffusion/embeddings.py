"""Text embeddings that condition a denoiser: one value object for every family of generators."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class PromptEmbeds:
    """Text conditioning of N images, one row per image; the fields are named as the UNet's arguments.

    Attributes:
        encoder_hidden_states: states of the text encoder (N, tokens, width); SDXL's two encoders
            are concatenated along the width.
        text_embeds: pooled embedding (N, width) of SDXL's second encoder; None for other families.
        time_ids: SDXL's micro-conditioning (N, 6): original size, crop corner and target size in pixels
            (Podell et al. 2023, section 2.2); None for other families.
    """

    encoder_hidden_states: Tensor
    text_embeds: Tensor | None = None
    time_ids: Tensor | None = None

    def __len__(self) -> int:
        return len(self.encoder_hidden_states)

    def __getitem__(self, rows: Tensor | slice) -> "PromptEmbeds":
        return PromptEmbeds(**{name: tensor[rows] for name, tensor in self.tensors().items()})

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the text encoder, in which the denoiser computes."""
        return self.encoder_hidden_states.dtype

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that are present, by field name; `PromptEmbeds(**tensors)` is the inverse."""
        named = {
            "encoder_hidden_states": self.encoder_hidden_states,
            "text_embeds": self.text_embeds,
            "time_ids": self.time_ids,
        }
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def expand(self, count: int) -> "PromptEmbeds":
        """Repeat a single row `count` times without copying it."""
        repeated = {n: t.expand(count, *t.shape[1:]) for n, t in self.tensors().items()}
        return PromptEmbeds(**repeated)

    def cat(self, other: "PromptEmbeds") -> "PromptEmbeds":
        """Return these rows followed by those of `other`."""
        others = other.tensors()
        return PromptEmbeds(**{n: torch.cat([t, others[n]]) for n, t in self.tensors().items()})

    def unet_kwargs(self) -> dict[str, Any]:
        """Return the keyword arguments of a diffusers UNet2DConditionModel that carry the text."""
        if self.text_embeds is None:
            return {"encoder_hidden_states": self.encoder_hidden_states}
        added = {"text_embeds": self.text_embeds, "time_ids": self.time_ids}
        return {"encoder_hidden_states": self.encoder_hidden_states, "added_cond_kwargs": added}


def encode_prompts(pipeline: Any, prompts: Sequence[str], batch_size: int = 256) -> PromptEmbeds:
    """Encode prompts as the denoiser reads them; each distinct prompt is encoded once.

    Args:
        pipeline: a StableDiffusionPipeline or StableDiffusionXLPipeline. Where its configuration says so
            (`force_zeros_for_empty_prompt`), the empty prompt is all zeros.
        prompts: N prompts, at least one.

    Returns:
        Row i belongs to `prompts[i]`, in the text encoder's dtype and on its device.
    """
    row_of = {prompt: row for row, prompt in enumerate(dict.fromkeys(prompts))}
    batches = [part.tensors() for part in encode_in_batches(pipeline, list(row_of), batch_size)]
    distinct = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
    device = distinct["encoder_hidden_states"].device
    rows = torch.tensor([row_of[prompt] for prompt in prompts], device=device)
    return PromptEmbeds(**distinct)[rows]


def encode_in_batches(
    pipeline: Any, prompts: Sequence[str], batch_size: int = 256
) -> Iterator[PromptEmbeds]:
    """Encode all prompts in order and yield `batch_size` rows at a time."""
    for start in range(0, len(prompts), batch_size):
        texts = list(prompts[start : start + batch_size])
        encoded = _encode(
            pipeline, [_tokens(tokenizer, texts) for tokenizer, _ in _encoders(pipeline)]
        )
        if getattr(pipeline.config, "force_zeros_for_empty_prompt", False):
            for row, prompt in enumerate(texts):
                if not prompt:
                    encoded.encoder_hidden_states[row] = 0
                    assert encoded.text_embeds is not None
                    encoded.text_embeds[row] = 0
        yield encoded


def _tokens(tokenizer: Any, texts: list[str]) -> Tensor:
    """Return the token numbers of some texts, int64 (N, longest that the encoder reads)."""
    ids: Tensor = tokenizer(
        texts,
        padding="max_length",
        truncation=True,
        max_length=tokenizer.model_max_length,
        return_tensors="pt",
    ).input_ids
    return ids


@torch.no_grad()
def _encode(pipeline: Any, ids: Sequence[Tensor]) -> PromptEmbeds:
    encoders = [encoder for _, encoder in _encoders(pipeline)]
    ids = [part.to(encoder.device) for part, encoder in zip(ids, encoders, strict=True)]
    if not _is_xl(pipeline):
        return PromptEmbeds(encoders[0](ids[0])[0])
    outputs = [
        encoder(part, output_hidden_states=True)
        for encoder, part in zip(encoders, ids, strict=True)
    ]
    hidden = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
    side = int(pipeline.unet.config.sample_size * pipeline.vae_scale_factor)
    time_ids = hidden.new_tensor([[side, side, 0, 0, side, side]]).expand(len(hidden), -1)
    return PromptEmbeds(hidden, outputs[-1].text_embeds, time_ids)


def _encoders(pipeline: Any) -> list[tuple[Any, Any]]:
    """Return the pairs of tokenizer and text encoder."""
    pairs = [(pipeline.tokenizer, pipeline.text_encoder)]
    return [*pairs, (pipeline.tokenizer_2, pipeline.text_encoder_2)] if _is_xl(pipeline) else pairs


def _is_xl(pipeline: Any) -> bool:
    return hasattr(pipeline, "text_encoder_2")
