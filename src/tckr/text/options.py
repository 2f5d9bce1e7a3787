"""Typed parameters of captioning."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tckr.options import ModelSource, Options

Precision = Literal["auto", "float32", "bfloat16", "float16"]


class CaptionOptions(Options):
    """Parameters of the captioning stage."""

    captioner: Annotated[str, ModelSource("captioner")] = Field(
        description="folder or hub id of a BLIP-2, BLIP or other image-text-to-text model"
    )
    prompt: str | None = Field(
        None,
        min_length=1,
        description="text that the caption answers or continues; null: none, for models that need none"
        " (BLIP-2, BLIP, GIT)",
    )
    max_new_tokens: int = Field(20, ge=1, le=512, description="longest caption, tokens")
    batch_size: int = Field(
        128, ge=1, description="images captioned at once; halved where they do not fit in memory"
    )
    dtype: Precision = Field(
        "auto", description="of the weights; auto: float32 on a CPU, bfloat16 on a GPU"
    )
    shard: int = Field(4096, ge=1, description="images whose captions are saved together")
    checkpoints: str | None = Field(
        None,
        description="folder of finished shards, from which interrupted captioning resumes; null: none",
    )

    def describe(self) -> str:
        """Say in a few words what the stage will do."""
        return f"describe every member, with {self.captioner}"


class WordsOptions(Options):
    """In what the captions of members are counted, under differential privacy."""

    kind: Literal["slots", "topics"] = Field(
        "slots",
        description="slots: the sentences of the shipped captioner; topics: groups of public captions, for any captioner",
    )
    pairs: Literal["auto", "always", "never"] = Field(
        "auto",
        description="slots: count each with the one that it goes together with most; auto: where members are many enough",
    )
    public_captions: str | None = Field(
        None, description="topics: text file of captions of public images, one a line"
    )
    topics: int = Field(200, ge=2, description="topics: groups")

    @model_validator(mode="after")
    def _fits(self) -> "WordsOptions":
        if self.kind == "topics" and self.public_captions is None:
            raise ValueError("topics need public_captions")
        return self
