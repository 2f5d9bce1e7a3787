"""What a denoiser is told of the text: one value object for every family of generators."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Words:
    """Conditioning of N images; a row belongs to one image.

    Attributes:
        hidden: states of the text encoder (N, tokens, width); of SDXL's two encoders side by side.
        pooled: one vector a prompt (N, width) of SDXL's second encoder; None for the others.
        sizes: SDXL's micro-conditioning (N, 6): original size, crop corner and target size in pixels (Podell et al.
            2023, section 2.2); None for the others.
    """

    hidden: Tensor
    pooled: Tensor | None = None
    sizes: Tensor | None = None

    def __len__(self) -> int:
        return len(self.hidden)

    def __getitem__(self, rows: Tensor | slice) -> "Words":
        return self.of({name: tensor[rows] for name, tensor in self.parts().items()})

    def parts(self) -> dict[str, Tensor]:
        """The tensors that are present, by name."""
        named = {"hidden": self.hidden, "pooled": self.pooled, "sizes": self.sizes}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    @staticmethod
    def of(parts: dict[str, Tensor]) -> "Words":
        """What `parts` came from."""
        return Words(**parts)

    def expand(self, count: int) -> "Words":
        """`count` times the one row."""
        return self.of({n: tensor.expand(count, *tensor.shape[1:]) for n, tensor in self.parts().items()})  # fmt: skip

    def then(self, other: "Words") -> "Words":
        """These rows and those of `other` after them."""
        theirs = other.parts()
        return self.of({n: torch.cat([tensor, theirs[n]]) for n, tensor in self.parts().items()})

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of a diffusers UNet2DConditionModel beside latents and timestep."""
        if self.pooled is None:
            return {"encoder_hidden_states": self.hidden}
        added = {"text_embeds": self.pooled, "time_ids": self.sizes}
        return {"encoder_hidden_states": self.hidden, "added_cond_kwargs": added}


def embed(pipeline: Any, prompts: Sequence[str], batch_size: int = 256) -> Words:
    """The text as the denoiser reads it; row i belongs to `prompts[i]`, each distinct prompt is encoded once.

    Args:
        pipeline: a StableDiffusionPipeline or StableDiffusionXLPipeline. Where its configuration says so
            (`force_zeros_for_empty_prompt`), the empty prompt is all zeros.

    Returns:
        `hidden` and `pooled` in the text encoder's dtype, on its device.
    """
    place = {prompt: row for row, prompt in enumerate(dict.fromkeys(prompts))}
    encoded = list(encode_in_parts(pipeline, list(place), batch_size))
    rows = {name: torch.cat([part.parts()[name] for part in encoded]) for name in encoded[0].parts()}  # fmt: skip
    wanted = torch.tensor([place[prompt] for prompt in prompts], device=encoded[0].hidden.device)
    return Words.of(rows)[wanted]


def encode_in_parts(
    pipeline: Any, prompts: Sequence[str], batch_size: int = 256
) -> Iterator[Words]:
    """Encode all prompts in order, `batch_size` at a time."""
    tokens = [
        tokenizer(
            list(prompts),
            padding="max_length",
            truncation=True,
            max_length=tokenizer.model_max_length,
            return_tensors="pt",
        ).input_ids.split(batch_size)
        for tokenizer, _ in _encoders(pipeline)
    ]
    for number, ids in enumerate(zip(*tokens, strict=True)):
        start = number * batch_size
        words = _encode(pipeline, ids)
        if getattr(pipeline.config, "force_zeros_for_empty_prompt", False):
            for row, prompt in enumerate(prompts[start : start + batch_size]):
                if not prompt:
                    words.hidden[row] = 0
                    assert words.pooled is not None
                    words.pooled[row] = 0
        yield words


@torch.no_grad()
def _encode(pipeline: Any, ids: Sequence[Tensor]) -> Words:
    encoders = [encoder for _, encoder in _encoders(pipeline)]
    ids = [part.to(encoder.device) for part, encoder in zip(ids, encoders, strict=True)]
    if not _is_xl(pipeline):
        return Words(encoders[0](ids[0])[0])
    outputs = [
        encoder(part, output_hidden_states=True)
        for encoder, part in zip(encoders, ids, strict=True)
    ]
    hidden = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
    side = int(pipeline.unet.config.sample_size * pipeline.vae_scale_factor)
    sizes = hidden.new_tensor([[side, side, 0, 0, side, side]]).expand(len(hidden), -1)
    return Words(hidden, outputs[-1].text_embeds, sizes)


def _encoders(pipeline: Any) -> list[tuple[Any, Any]]:
    """Pairs of tokenizer and text encoder."""
    pairs = [(pipeline.tokenizer, pipeline.text_encoder)]
    return [*pairs, (pipeline.tokenizer_2, pipeline.text_encoder_2)] if _is_xl(pipeline) else pairs


def _is_xl(pipeline: Any) -> bool:
    return hasattr(pipeline, "text_encoder_2")
