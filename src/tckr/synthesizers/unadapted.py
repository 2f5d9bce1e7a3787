"""The control: a generator that no private image has touched, prompted with class names, labelled by its prompts.

Of the private set only the names of its classes and the size of its images reach the synthetic set, so an audit of it
has to find nothing.
"""

from collections.abc import Collection
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from tckr.options import ModelSource
from tckr.synthesizers.text_to_image import DrawingOptions, Source, TextToImage


class UnadaptedRecyclingOptions(DrawingOptions):
    """How the synthetic set is made."""

    generator: Annotated[str, ModelSource("generator")] = Field(
        description="folder or hub id of a diffusers text-to-image pipeline"
    )
    resolution: int | None = Field(
        None, ge=8, description="side at which it is sampled, pixels; null: its own"
    )

    @model_validator(mode="after")
    def _nothing_private(self) -> "UnadaptedRecyclingOptions":
        if self.filters:
            raise ValueError(
                "filter.threshold lets the private teacher choose images, and nothing private may reach this control"
            )
        return self

    def describe(self) -> str:
        """Say in a few words what the stage will do."""
        return f"{self.amount()}, from {self.generator}, prompted with class names"


class Unadapted(TextToImage):
    """Generate from class names."""

    channels: ClassVar[tuple[str, ...]] = ()
    label_source: ClassVar[Literal["teacher", "prompts"]] = "prompts"

    knowledge_recycling: UnadaptedRecyclingOptions

    def source(self) -> Source:
        """Return the generator as it was downloaded."""
        options = self.knowledge_recycling
        return Source(options.generator, options.resolution)

    def adapted(self, closed: Collection[str] = ()) -> bool:
        """There is no adapter."""
        return False
