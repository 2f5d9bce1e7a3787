"""The control: a generator that no private image has touched, prompted with class names, labelled by its prompts.

Of the private set only the names of its classes and the size of its images reach the synthetic set, so an audit of it
has to find nothing.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import pandas as pd
from pydantic import Field

from tckr.diffusion.options import SamplingOptions
from tckr.engine.content import source_state
from tckr.engine.seeds import derive
from tckr.options import ModelSource
from tckr.synthesizers.base import Fitted, RecyclingOptions, Synthesizer, class_prompts

if TYPE_CHECKING:
    from torch import Tensor


class UnadaptedRecyclingOptions(RecyclingOptions):
    """How the synthetic set is made."""

    generator: Annotated[str, ModelSource("generator")] = Field(
        description="folder or hub id of a diffusers text-to-image pipeline"
    )
    resolution: int | None = Field(
        None, ge=8, description="side at which it is sampled, pixels; null: its own"
    )
    sampling: SamplingOptions = SamplingOptions()

    def describe(self) -> str:
        """Say in a few words what the stage will do."""
        return f"synthetic images, {self.cardinality:g} x the members, from {self.generator}, prompted with class names"


class Unadapted(Synthesizer):
    """Generate from class names."""

    label_source: ClassVar[Literal["teacher", "prompts"]] = "prompts"

    knowledge_recycling: UnadaptedRecyclingOptions

    def plan_prompts(
        self,
        fitted: Fitted,
        count: int,
        seed: int,
        *,
        nested: bool = False,
        closed: Collection[str] = (),
    ) -> pd.DataFrame:
        """Use the name of each class equally often."""
        from tckr.diffusion.sampling import balanced_prompts

        prompts, labels = class_prompts(fitted.class_names, fitted.labels)
        return balanced_prompts(prompts, labels, count, derive(seed, "prompts"), nested)

    def draw(
        self, fitted: Fitted, prompts: Sequence[str], seed: int, *, closed: Collection[str] = ()
    ) -> "Iterator[Tensor]":
        """Draw from the generator as it was downloaded."""
        return self.draw_from(0, fitted, prompts, seed, closed=closed)

    def draw_from(
        self,
        start: int,
        fitted: Fitted,
        prompts: Sequence[str],
        seed: int,
        *,
        closed: Collection[str] = (),
    ) -> "Iterator[Tensor]":
        """Draw the images from number `start` on alone."""
        from tckr.diffusion.pipeline import load
        from tckr.diffusion.sampling import stream

        options = self.knowledge_recycling
        pipeline = fitted.once(
            "base", lambda: load(options.generator, fitted.device, options.resolution)
        )
        channels, height, width = fitted.shape
        noise = derive(seed, "sampling")
        sampling = options.sampling
        return stream(pipeline, prompts, (height, width), channels, sampling, noise, start=start)

    def drawing(self) -> dict[str, Any]:
        """Name generator and sampling."""
        options = self.knowledge_recycling
        return {
            "generator": source_state(options.generator),
            "resolution": options.resolution,
            "sampling": options.sampling.recipe(),
        }

    def count_cut(self, prompts: Sequence[str]) -> int:
        """Return how many prompts the generator does not read to their ends."""
        from tckr.diffusion.pipeline import count_cut

        return count_cut(self.knowledge_recycling.generator, prompts)

    def provenance(self) -> dict[str, str]:
        """Say which generator drew the images."""
        return {"generator": "base"}

    def in_one_process(self) -> "Unadapted":
        """Return the same arm, drawing in this process."""
        sampling = self.knowledge_recycling.sampling.model_copy(update={"workers": 1})
        recycling = self.knowledge_recycling.model_copy(update={"sampling": sampling})
        return self.model_copy(update={"knowledge_recycling": recycling})
