"""What arms share that draw from a diffusers text-to-image pipeline, as it was downloaded or with an adapter in it."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import pandas as pd

from tckr.diffusion.options import SamplingOptions
from tckr.engine.content import source_state
from tckr.engine.seeds import derive
from tckr.synthesizers.base import Synthesizer
from tckr.synthesizers.choice import Choice
from tckr.synthesizers.filtering import FilterOptions
from tckr.synthesizers.fitted import Fitted
from tckr.synthesizers.private_set import PrivateSet, class_prompts
from tckr.synthesizers.recycling import RecyclingOptions

if TYPE_CHECKING:
    from torch import Tensor


class DrawingOptions(RecyclingOptions):
    """How large the synthetic set is, and how the generator is sampled."""

    sampling: SamplingOptions = SamplingOptions()


class Source(NamedTuple):
    """A generator: folder or hub id, and the side at which it is sampled, pixels (None: its own)."""

    generator: str
    resolution: int | None


class TextToImage(Synthesizer):
    """An arm whose images are drawn by a text-to-image pipeline.

    Attributes:
        update: the artefact that makes the generator the private set's own: an adapter, or snapshots of which one is chosen.
        public_updates: artefacts that are merged in before it, in order, which public images made.
    """

    update: ClassVar[str] = "adapter"
    public_updates: ClassVar[tuple[str, ...]] = ()
    channels: ClassVar[tuple[str, ...]] = ("adapter", "captions")

    knowledge_recycling: DrawingOptions

    def source(self) -> Source:
        """Return the generator that the arm draws from."""
        options = getattr(self, "generator_adaptation")  # noqa: B009 - of arms with an adapter
        return Source(options.generator, options.resolution)

    def adapted(self, closed: Collection[str] = ()) -> bool:
        """Whether the adapter is merged in: not if its channel is closed."""
        return "adapter" not in closed

    def plan_prompts(
        self,
        fitted: Fitted,
        count: int,
        seed: int,
        *,
        nested: bool = False,
        closed: Collection[str] = (),
    ) -> pd.DataFrame:
        """Use the name of each class equally often; arms that know more of the images say more."""
        from tckr.diffusion.sampling import balanced_prompts

        prompts, labels = class_prompts(fitted.class_names)
        return balanced_prompts(prompts, labels, count, derive(seed, "prompts"), nested)

    def draw(
        self, fitted: Fitted, prompts: Sequence[str], seed: int, *, closed: Collection[str] = ()
    ) -> "Iterator[Tensor]":
        """Draw from the generator, adapted or as it was downloaded."""
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
        from tckr.diffusion.sampling import stream

        adapted = self.adapted(closed)
        pipeline = fitted.once(adapted, lambda: self.generator(fitted, adapted))
        channels, height, width = fitted.shape
        options = self.knowledge_recycling.sampling
        noise = derive(seed, "sampling")

        def work() -> str | None:
            try:
                return "-".join([fitted.drawing(prompts, seed), *sorted(closed)])
            except TypeError:  # an artefact whose content cannot be compared
                return None

        size = (height, width)
        return stream(pipeline, prompts, size, channels, options, noise, start=start, work=work)

    def generator(self, fitted: Fitted, adapted: bool) -> Any:
        """Load the diffusers pipeline, with all updates merged in or as it was downloaded."""
        from tckr.diffusion.pipeline import load

        source = self.source()
        pipeline = load(source.generator, fitted.device, source.resolution)
        for update in self.updates(fitted.artefacts) if adapted else ():
            pipeline = update.apply(pipeline)
        return pipeline

    def updates(self, artefacts: Mapping[str, Any]) -> list[Any]:
        """Return what is merged into the generator as it was downloaded, in order; only the last was fitted to private images."""
        public = [artefacts[name] for name in self.public_updates]
        return [*public, self.chosen_update(artefacts)]

    def prompts_of(self, private: PrivateSet, artefacts: Mapping[str, Any]) -> list[str]:
        """Return the prompt with which the generator learns each image: the name of its class; arms that caption say more.

        Args:
            private: N images.
            artefacts: those of one image each, if the arm has any, aligned with `private`.
        """
        return [private.class_names[label] for label in private.labels.tolist()]

    def chosen_update(self, artefacts: Mapping[str, Any]) -> Any:
        """Return the adapter, or the snapshot that was chosen of several."""
        from tckr.diffusion.snapshots import Snapshots

        made = artefacts[self.update]
        return made.at(self._snapshot) if isinstance(made, Snapshots) else made

    @property
    def _snapshot(self) -> int | None:
        training = getattr(self, "generator_adaptation", None)
        return getattr(training, "snapshot", None)

    def candidates(self, artefacts: Mapping[str, Any]) -> dict[int, int]:
        """Return the numbers of the snapshots that may be chosen, with the steps behind each."""
        from tckr.diffusion.snapshots import Snapshots

        made = artefacts.get(self.update)
        if not isinstance(made, Snapshots):
            return {}
        return {number: made.steps[number] for number in made.numbers}

    def drawing(self) -> dict[str, Any]:
        """Name generator and sampling: the artefacts stand for the options that made them."""
        source = self.source()
        return {
            "generator": source_state(source.generator),
            "resolution": source.resolution,
            "adapted": self.adapted(),
            "snapshot": self._snapshot,
            "sampling": self.knowledge_recycling.sampling.recipe(),
        }

    def with_choice(self, choice: Choice) -> Self:
        """Return the arm that samples the chosen snapshot in the chosen way; a shadow's training ends there."""
        own = self.knowledge_recycling
        changed = {
            "sampling": SamplingOptions.model_validate(
                {**own.sampling.model_dump(), **choice.sampling}
            ),
            "filter": FilterOptions.model_validate({**own.filter.model_dump(), **choice.filter}),
        }
        chosen: dict[str, Any] = {"knowledge_recycling": own.model_copy(update=changed)}
        if choice.snapshot is not None:
            training = getattr(self, "generator_adaptation")  # noqa: B009 - of arms with snapshots
            chosen["generator_adaptation"] = training.model_copy(
                update={"snapshot": choice.snapshot}
            )
        return self.model_copy(update=chosen)

    def count_cut(self, prompts: Sequence[str]) -> int:
        """Return how many prompts the generator does not read to their ends."""
        from tckr.diffusion.pipeline import count_cut

        return count_cut(self.source().generator, prompts)

    def provenance(self) -> dict[str, str]:
        """Say which generator drew the images."""
        return {"generator": "adapted" if self.adapted() else "base"}

    def in_one_process(self) -> Self:
        """Return the same arm, drawing in this process."""
        own = self.knowledge_recycling
        alone = {
            "sampling": own.sampling.model_copy(update={"workers": 1}),
            "mixture": tuple(each.in_one_process() for each in own.mixture),
        }
        recycling = own.model_copy(update=alone)
        return self.model_copy(update={"knowledge_recycling": recycling})
