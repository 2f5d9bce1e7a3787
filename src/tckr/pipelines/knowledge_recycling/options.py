"""Typed parameters of the stage."""

from typing import Literal

from pydantic import Field

from tckr.diffusion.options import SamplingOptions
from tckr.options import Options


class RecyclingOptions(Options):
    """How the synthetic set is made."""

    cardinality: float = Field(
        1.0, gt=0, le=100, description="synthetic images as a multiple of the members"
    )
    generator: Literal["adapted", "base"] = Field(
        "adapted", description="base is the zero-leak control: the generator as downloaded"
    )
    prompts: Literal["captions", "class_names"] = Field(
        "captions",
        description="captions of the members, or the bare class name (a control: no caption leaks)",
    )
    release_prompts: bool = Field(
        False,
        description="hand the prompts out with the images: captions of members tell who was one (docs/audit.md)",
    )
    sampling: SamplingOptions = SamplingOptions()


def images_at(cardinality: float, members: int) -> int:
    """Return the number of synthetic images at a cardinality: at least one."""
    return max(1, round(cardinality * members))
