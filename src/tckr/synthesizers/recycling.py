"""How large the synthetic set is, how it is filled and mixed, and what of it is released."""

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field, model_validator

from tckr.options import Options
from tckr.synthesizers.filtering import FilterOptions
from tckr.synthesizers.mixture import OWN, MixedOptions


class RecyclingOptions(Options):
    """How large the synthetic set is and what of it is released; every arm's group `knowledge_recycling` extends this."""

    size_field: ClassVar[str] = "cardinality"
    about: ClassVar[str] = "generate_images"  # the node whose work `describe` tells of

    cardinality: float = Field(
        1.0,
        gt=0,
        le=100,
        description="synthetic images as a multiple of the members, in each slice",
    )
    slices: int = Field(
        1,
        ge=1,
        le=1000,
        description="sets of that size, drawn one after another: a student sees the next one every few epochs"
        " (student_training.regenerate), or all as one set",
    )
    filter: FilterOptions = Field(
        FilterOptions(), description="which images stay, by the judgement of the teacher"
    )
    mixture: tuple[MixedOptions, ...] = Field(
        (),
        max_length=16,
        description="further generators, each the arm's own fitted anew with another seed, or that of another arm; images are"
        " drawn from all in turn",
    )
    release_prompts: bool = Field(
        False,
        description="release the prompts with the images: captions of members tell who was one (docs/audit.md)",
    )
    stored_views: int = Field(
        1,
        ge=1,
        le=64,
        description="fixed views of each image of which the teacher's soft labels are stored: 4 or more let whoever has"
        " the set alone train as good a student as with the teacher",
    )
    checkpoints: str | None = Field(
        None,
        description="folder in which an interrupted drawing keeps its images, to go on from there; null: it starts anew",
    )

    def n_images(self, members: int) -> int:
        """Return the number of synthetic images for so many members, in all slices: at least one in each.

        >>> RecyclingOptions(cardinality=0.5).n_images(60), RecyclingOptions(cardinality=0.5, slices=4).n_images(60)
        (30, 120)
        """
        return self.slices * images_at(self.cardinality, members)

    @model_validator(mode="after")
    def _mixed(self) -> "RecyclingOptions":
        # Where nothing is fitted, another seed makes no other generator.
        told = [(each.arm, each.seed if each.is_fitted else None) for each in self.mixture]
        for number, one in enumerate(told):
            if one in told[:number]:
                twice = self.mixture[number].name
                raise ValueError(f"mixture has {twice} twice: both would be the same generator")
        return self

    @property
    def weights(self) -> list[float]:
        """Images that each generator draws for one of the arm's own, which is the first."""
        return [1.0, *(each.weight for each in self.mixture)]

    @property
    def sources(self) -> list[str]:
        """Names of the generators, the arm's own first."""
        return [OWN, *(each.name for each in self.mixture)]

    @property
    def filters(self) -> bool:
        """Whether the teacher rejects images."""
        return self.filter.threshold is not None

    def amount(self) -> str:
        """Say in a few words how many images there will be.

        >>> RecyclingOptions(cardinality=2, slices=4, filter={"threshold": 0.5}).amount()
        'synthetic images, 4 slices of 2 x the members, filtered by the teacher'
        """
        slices = f"{self.slices:,} slices of " if self.slices > 1 else ""
        filtered = ", filtered by the teacher" if self.filters else ""
        return f"synthetic images, {slices}{self.cardinality:g} x the members{filtered}"

    def described(self) -> list[str]:
        """Say in a sentence each which options of the drawing were on."""
        said = [self.filter.described()] if self.filters else []
        if self.mixture:
            shares = [100 * weight / sum(self.weights) for weight in self.weights]
            said.append(f"{_listed(self.sources, [f'{share:.0f} %' for share in shares])}.")
        if self.slices > 1:
            said.append(
                f"The set has {self.slices:,} slices of {self.cardinality:g} x the members."
            )
        return said


def _listed(sources: Sequence[str], shares: Sequence[str]) -> str:
    """Say which generator draws what share.

    >>> _listed(["own", "unadapted"], ["67 %", "33 %"])
    '2 generators take turns: own 67 %; unadapted 33 %'
    """
    told = "; ".join(f"{name} {share}" for name, share in zip(sources, shares, strict=True))
    return f"{len(sources)} generators take turns: {told}"


def images_at(cardinality: float, members: int) -> int:
    """Return the number of synthetic images at a cardinality: at least one."""
    return max(1, round(cardinality * members))
