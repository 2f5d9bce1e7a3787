"""Typed parameters of the sources of text."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tckr.engine.endpoint import EndpointOptions, TrafficOptions
from tckr.options import ModelSource, Options
from tckr.text.options import Precision

Kind = Literal["masked", "causal", "openai"]
TRAITS = {
    "viewpoint": ("from the front", "from the side", "from above", "close up", "from a distance"),
    "light": ("in soft light", "in bright light", "with strong contrast", "evenly lit"),
    "colours": ("in one colour", "in dark colours", "in bright colours", "in muted colours"),
    "background": ("on a plain background", "on a dark background", "on a textured background"),
    "style": ("plain", "elegant", "worn", "modern", "old-fashioned", "patterned"),
}


class ChatOptions(Options):
    """How a language model that follows instructions is asked; nothing here may come from a private image."""

    domain: str = Field(
        "photograph", min_length=1, description="what the images are, as everybody may know"
    )
    traits: dict[str, tuple[str, ...]] = Field(
        TRAITS, description="words that make random prompts differ: of two of the lists, one each"
    )
    words: int = Field(16, ge=3, description="words of a random description")
    min_words: int = Field(
        6, ge=1, description="fewest words that a variation is asked for; published: 25"
    )
    max_words: int = Field(
        50, ge=3, description="most words that a variation is asked for, and twice it may have"
    )
    words_spread: float = Field(
        4.0, ge=0, description="standard deviation of the change in words; published: 36 to 40"
    )
    max_tokens: int = Field(100, ge=8, le=4096, description="longest answer")
    tries: int = Field(
        3, ge=1, le=20, description="for an answer that is empty, refuses, or leaves blanks"
    )
    tolerance: float = Field(
        0.5,
        ge=0,
        le=1,
        description="share of prompts for which no try may give a usable answer, before the run stops",
    )

    @model_validator(mode="after")
    def _fits(self) -> "ChatOptions":
        if self.max_words < max(self.min_words, self.words):
            raise ValueError("max_words must be at least min_words and words")
        if len(self.traits) < 2 or not all(self.traits.values()):
            raise ValueError("traits need two lists at least, none of them empty")
        return self


class TextSourceOptions(Options):
    """Which model writes the prompts."""

    kind: Kind = Field(
        "masked",
        description="masked: a masked language model fills in words of the grammar; causal: a model of transformers that"
        " follows instructions; openai: one behind an OpenAI-compatible endpoint",
    )
    model: Annotated[str | None, ModelSource("language model")] = Field(
        None,
        description="masked, causal: folder of a transformers BertForMaskedLM or causal language model, with its tokenizer",
    )
    share: float = Field(
        0.5, gt=0, le=1, description="of a prompt's words that are masked; published: half"
    )
    temperature: float = Field(
        1.0, gt=0, le=10, description="of the words filled in; published: 1.0 to 1.4"
    )
    chat: ChatOptions = ChatOptions()
    dtype: Precision = Field(
        "auto", description="causal: of the weights; auto: float32 on a CPU, bfloat16 on a GPU"
    )
    batch_size: int = Field(16, ge=1, description="causal: prompts written at once")
    endpoint: EndpointOptions = EndpointOptions()
    traffic: TrafficOptions = TrafficOptions()

    @model_validator(mode="after")
    def _named(self) -> "TextSourceOptions":
        if self.kind != "openai" and not self.model:
            raise ValueError(f"{self.kind} needs model, the folder of one")
        if self.kind == "openai" and not (self.endpoint.base_url and self.endpoint.model):
            raise ValueError("openai needs endpoint.base_url and endpoint.model")
        return self

    def recipe(self) -> dict[str, Any]:
        """Return the options that change what is written, without those of traffic.

        >>> "traffic" in TextSourceOptions(model="folder").recipe()
        False
        """
        return self.model_dump(mode="json", exclude={"traffic"})

    def describe(self) -> str:
        """Say in a few words who writes the prompts."""
        if self.kind == "openai":
            return f"prompts by {self.endpoint.model} at {self.endpoint.base_url}"
        return f"prompts by {self.model}"
