"""Typed parameters of the sources of text."""

from typing import Literal

from pydantic import Field

from tckr.options import Options


class TextSourceOptions(Options):
    """Which model writes the prompts."""

    kind: Literal["masked"] = Field(
        "masked", description="masked: a masked language model fills in words of the grammar"
    )
    model: str = Field(
        description="masked: folder of a transformers BertForMaskedLM with its tokenizer"
    )
    share: float = Field(
        0.5, gt=0, le=1, description="of a prompt's words that are masked; published: half"
    )
    temperature: float = Field(
        1.0, gt=0, le=10, description="of the words filled in; published: 1.0 to 1.2"
    )
