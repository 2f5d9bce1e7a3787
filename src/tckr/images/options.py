"""Typed parameters of the ingestion stage."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from tckr.options import Options

Share = Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, lt=1)]
"""A number of images: an integer is a count, a number between 0 and 1 a fraction."""


class IngestionOptions(Options):
    """How raw images become the private set.

    Counts and fractions of `members`, `holdout` and `validation` refer to the pool: every image outside the
    source's own test split (and outside the test images drawn where the source has none).
    """

    size: int = Field(default=32, ge=8, le=1024, description="edge of the square images, in pixels")
    channels: Literal["auto", "grey", "colour"] = Field(
        default="auto", description="auto: grey if every image is grey, else colour"
    )
    fit: Literal["resize", "pad", "crop"] = Field(
        default="pad",
        description="how other shapes become square: resize = stretch; pad = shrink if larger, never enlarge, "
        "fill up with the border's median colour; crop = fill the square, cut what sticks out",
    )
    members: Share | None = Field(
        default=None, description="images trained on; null = as many as the holdout"
    )
    holdout: Share | None = Field(
        default=None,
        description="same distribution, never trained on; null = as many as the members; "
        "both null = half each of what validation leaves",
    )
    validation: Share = Field(
        default=0.0769, description="images to choose settings on (500 of the default set's 6,500)"
    )
    test: Share | None = Field(
        default=None,
        description="test images, of the source's own test split where it has one, else of all images; "
        "null = the whole own test split, or 0.2 of all images",
    )
    canaries: int = Field(
        default=0,
        ge=0,
        description="images of members and holdout, in proportion, that get a wrong label on purpose, so that an audit "
        "sees what is memorised; at most half of each",
    )
    strict: bool = Field(
        default=False,
        description="stop at the first unreadable image instead of skipping and counting it",
    )
    max_pixels: int = Field(
        default=50_000_000,
        ge=64,
        description="width x height above which an image is refused by its header, undecoded",
    )
    image_column: str | None = Field(
        default=None, description="column of images or paths; null = found by its usual names"
    )
    label_column: str | None = Field(
        default=None, description="column of labels; null = found by its usual names"
    )
    split_column: str | None = Field(
        default=None, description="column of splits; null = found by its usual names"
    )
    class_names: tuple[str, ...] | None = Field(
        default=None,
        description="names of the integer labels 0, 1, ... for sources that carry numbers only",
    )
    licence: str | None = Field(
        default=None, description="licence of the source, repeated in the ingestion report"
    )

    def describe(self) -> str:
        """Say in a few words what the stage will do."""
        return f"read, check and split the images, {self.size} pixels"

    @field_validator("class_names")
    @classmethod
    def _distinct(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if names is not None and len(set(names)) < len(names):
            raise ValueError("two classes have the same name")
        return names
