"""Writes, renders and embeds the prompts of SPTI, so that private images can vote for them."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tckr.synthesizers.private_set import PublicFacts

if TYPE_CHECKING:
    from torch import Tensor

    from tckr.diffusion.renderers import Renderer
    from tckr.synthesizers.spti import Spti

BATCH = 500  # images whose features are computed at once


class PromptSpace:
    """The space of an arm's prompts, as `tckr.dp.evolution` asks for it; each model is loaded when it is needed first."""

    def __init__(self, arm: "Spti", facts: PublicFacts, device: str) -> None:
        self.arm, self.facts, self.device = arm, facts, device

    def random(self, label: int, count: int, seed: int) -> list[str]:
        """Return new prompts of a class."""
        return self._source.random(self.facts.class_names[label], count, seed)

    def vary(self, prompts: Sequence[str], labels: Sequence[int], seed: int) -> list[str]:
        """Return a variation of each prompt; `labels` are their classes."""
        names = [self.facts.class_names[label] for label in labels]
        return self._source.vary(prompts, names, seed)

    def embed(self, prompts: Sequence[str], seed: int) -> "Tensor":
        """Return where prompts lie, float32 (N, D): the mean of their renderings' features, or that of the words."""
        if self.arm.voting.by == "captions":
            return self.texts([prompt.partition(": ")[2] or prompt for prompt in prompts])
        each = self.arm.voting.renderings
        repeated = [prompt for prompt in prompts for _ in range(each)]
        rows = self.pictures(self.rendered(repeated, seed))
        return rows.view(len(prompts), each, -1).mean(1)

    def rendered(self, prompts: Sequence[str], seed: int) -> "Iterator[Tensor]":
        """Yield an image of each prompt, in batches."""
        channels, height, width = self.facts.shape
        return self._renderer.render(prompts, (height, width), channels, seed)

    def pictures(self, batches: "Iterator[Tensor] | Sequence[Tensor]") -> "Tensor":
        """Return the features of images, float32 (N, D) on the device, rows of length 1."""
        import torch
        from torch.nn import functional

        rows = []
        with torch.inference_mode():
            for batch in batches:
                for part in batch.split(BATCH):
                    found = self._body(part.to(self.device).float() / 255)
                    rows.append(functional.normalize(found.float(), dim=1))
        return torch.cat(rows).clone()

    def texts(self, sentences: Sequence[str]) -> "Tensor":
        """Return the features of sentences, float32 (N, D) on the device, rows of length 1."""
        from tckr.text.clip import text_embeddings

        return text_embeddings(self._clip, sentences).clone().to(self.device)

    @cached_property
    def _source(self) -> Any:
        from tckr.text.sources.registry import text_source

        return text_source(self.arm.text, self.device)

    @cached_property
    def _renderer(self) -> "Renderer":
        from tckr.diffusion.renderers import renderer

        source, options = self.arm.source(), self.arm.knowledge_recycling
        return renderer(
            options.renderer, source.generator, options.sampling, self.device, source.resolution
        )

    @cached_property
    def _body(self) -> Callable[["Tensor"], "Tensor"]:
        from tckr.classifiers.features import Scattering, load_clip_features

        if self.arm.voting.features == "scattering":
            return Scattering(*self.facts.shape).to(self.device).eval()
        return load_clip_features(self.arm.voting.encoder).to(self.device).eval()

    @cached_property
    def _clip(self) -> Any:
        from tckr.text.clip import load_clip

        return load_clip(self.arm.voting.encoder, self.device)
