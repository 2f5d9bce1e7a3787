"""Typed parameters of the ingestion stage."""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from tckr.options import Options

Share = Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, lt=1)]
"""A number of images: an integer is a count, a number between 0 and 1 a fraction."""


class CanaryOptions(Options):
    """Images that are planted to be memorised, and are attacked apart from all others; see `tckr.images.canaries`."""

    mislabelled: int = Field(
        default=0,
        ge=0,
        description="images of members and holdout, in proportion, that get a wrong label on purpose; with the duplicated "
        "ones at most half of each",
    )
    duplicated: int = Field(
        default=0,
        ge=0,
        description="images of the members, and as many of the holdout beside them, that keep their label and are there "
        "`copies` times; not for arms under differential privacy",
    )
    copies: int = Field(
        default=10, ge=2, le=10_000, description="times that each duplicated one is there"
    )


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
    canaries: CanaryOptions = Field(
        default=CanaryOptions(),
        description="images that are planted to be memorised, for an audit; a plain number: so many mislabelled ones",
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
    range: Literal["auto", "full", "set"] | tuple[float, float] = Field(
        default="auto",
        description="source values that become black and white. auto: judged over the whole set (8 to 16 bits, only 0 "
        "and 1, floats 0..1, 0..255 or -1..1), and refused where it is uncertain; full: everything the type can hold; "
        "set: the smallest and the largest value of the set; or two numbers, on the command line as -160..240",
    )
    background: Literal["auto", "white", "black"] = Field(
        default="auto",
        description="what transparent images are laid on; auto: white, unless drawings of the set vanish on it",
    )
    folders: str = Field(
        default="auto",
        description="what the levels of folders mean, from the top: class, split/class, group/class, class/group, ...; "
        "a level of no meaning is -; auto: found out, and refused where it is uncertain",
    )
    test_split: str | None = Field(
        default=None,
        description="the word that means the test split in the source's split column, folders or files; the others "
        "are the pool. null: by the usual words (train, val, test), and an unknown word is refused",
    )
    label_pattern: str | None = Field(
        default=None,
        description="regular expression searched in an image's path below the folder; what its first bracket finds is the "
        "label, in place of class folders",
    )
    group_column: str | None = Field(
        default=None,
        description="column that names the person (patient, lesion, site) of an image; images of one group stay in "
        "one split",
    )
    group_pattern: str | None = Field(
        default=None,
        description="regular expression searched in an image's name (its path, for files); what its first bracket "
        "finds names the group",
    )
    near_duplicates: Literal["keep", "drop"] = Field(
        default="keep",
        description="images that differ by compression, size, brightness or a flip; keep: those across splits are "
        "counted and shown; drop: one of each is kept, before the splits are drawn",
    )
    allow_outside: bool = Field(
        default=False, description="let a list of paths name files outside its own folder"
    )
    licence: str | None = Field(
        default=None, description="licence of the source, repeated in the ingestion report"
    )

    def describe(self) -> str:
        """Say in a few words what the stage will do."""
        return f"read, check and split the images, {self.size} pixels"

    @property
    def grouped(self) -> bool:
        """Whether the source says which images belong together."""
        by_folder = "group" in self.folders.split("/")
        return by_folder or bool(self.group_column) or bool(self.group_pattern)

    @field_validator("canaries", mode="before")
    @classmethod
    def _mislabelled(cls, value: object) -> object:
        """Take a plain number for that of mislabelled ones."""
        plain = isinstance(value, int) and not isinstance(value, bool)
        return {"mislabelled": value} if plain else value

    @field_validator("range", mode="before")
    @classmethod
    def _two_numbers(cls, value: object) -> object:
        """Read `-160..240`: a list would need a comma, at which the command line ends a parameter."""
        if isinstance(value, str) and ".." in value:
            low, _, high = value.partition("..")
            return low.strip(), high.strip()
        return value

    @field_validator("range")
    @classmethod
    def _rising(cls, value: object) -> object:
        if isinstance(value, tuple) and not value[0] < value[1]:
            raise ValueError("the first number must be below the second")
        return value

    @field_validator(
        "image_column", "label_column", "split_column", "group_column", "test_split", mode="before"
    )
    @classmethod
    def _text(cls, value: object) -> object:
        """Take a column called 0 for its name: the command line turns it into a number."""
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("folders")
    @classmethod
    def _levels(cls, value: str) -> str:
        levels = [level.strip() for level in value.split("/")]
        if levels == ["auto"]:
            return "auto"
        known = ("split", "group", "class", "-")
        if set(levels) - set(known) or levels.count("class") != 1:
            raise ValueError(
                "give auto, or levels among split, group, class and -, with class once"
            )
        if levels.count("split") > 1 or levels.count("group") > 1:
            raise ValueError("a level is named twice")
        return "/".join(levels)

    @field_validator("group_pattern", "label_pattern")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                groups = re.compile(value).groups
            except re.error as error:
                raise ValueError(f"no regular expression: {error}") from error
            if groups < 1:
                raise ValueError(
                    "put brackets round what names the group or the label, as in (patient\\d+)"
                )
        return value

    @model_validator(mode="after")
    def _one_way_to_labels(self) -> Self:
        if self.label_pattern is not None and (self.folders != "auto" or self.label_column):
            raise ValueError(
                "label_pattern stands beside folders or label_column: keep one of them"
            )
        return self

    @field_validator("class_names")
    @classmethod
    def _distinct(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if names is not None and len(set(names)) < len(names):
            raise ValueError("two classes have the same name")
        return names
