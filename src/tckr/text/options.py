"""Typed parameters of captioning."""

from pydantic import Field

from tckr.options import Options


class CaptionOptions(Options):
    """Parameters of the captioning stage."""

    captioner: str = Field(description="folder or hub id of a BLIP-2 model")
    max_new_tokens: int = Field(20, ge=1, le=512, description="longest caption, tokens")
    batch_size: int = Field(128, ge=1, description="images captioned at once")
