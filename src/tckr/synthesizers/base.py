"""The seam between an arm and everything else: fit on some private images, then sample synthetic sets.

Target and shadow call the same synthesizer: a shadow fits it on other images with another seed, nothing else differs.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self

import pandas as pd

from tckr.errors import UserError
from tckr.options import Options
from tckr.synthesizers.filtering import FILTER
from tckr.synthesizers.fitted import Fitted
from tckr.synthesizers.mixture import check_mixture
from tckr.synthesizers.private_set import PrivateSet
from tckr.synthesizers.recycling import RecyclingOptions

if TYPE_CHECKING:
    from torch import Tensor

    from tckr.synthesizers.choice import Choice


class Step(NamedTuple):
    """One step of an arm's fit, a method of its synthesizer: `method(private, artefacts, seed, device)`.

    Attributes:
        name: of the method, and of the Kedro node.
        makes: the artefacts that it returns, in order; they are catalog entries too.
        per_image: row i of what it makes depends on image i alone, so that it is computed once for all audited images
            and shadows read their own rows.
        charges: name of the mechanism in the ledger that pays for what the step takes from private images.
        private: False for a step that reads no private image: it is called with the public facts in their place.
        reads: the artefacts of earlier steps that its method uses, and alone is given; None: all of them, but for those
            of one image each where it reads no private image.
    """

    name: str
    makes: tuple[str, ...]
    per_image: bool = False
    charges: str | None = None
    private: bool = True
    reads: tuple[str, ...] | None = None


class Synthesizer(Options, ABC):
    """An arm: one way from private images to synthetic sets. Its fields are its parameter groups.

    Attributes:
        steps: what `fit` runs, in the paper's order.
        channels: ways in from the private images that `sample` can close, for the attribution of a leak.
        threats: what a release would contain beside the student, and the audit therefore attacks.
        label_source: whether the set is labelled by the teacher, or by the prompts alone.
        by_products: artefacts that nothing is drawn from, such as losses.
        own_teacher: the steps that make the arm's own `teacher` and its `teacher_recipe`, from private images alone;
            empty: the teacher that all arms share.
        chooses: whether students choose snapshot and sampling, by the group `generator_choice`; never in an arm under
            differential privacy.
    """

    steps: ClassVar[tuple[Step, ...]] = ()
    channels: ClassVar[tuple[str, ...]] = ()
    threats: ClassVar[tuple[str, ...]] = ("images",)
    label_source: ClassVar[Literal["teacher", "prompts"]] = "teacher"
    by_products: ClassVar[tuple[str, ...]] = ()
    own_teacher: ClassVar[tuple[str, ...]] = ()
    chooses: ClassVar[bool] = False

    knowledge_recycling: RecyclingOptions

    def check(self) -> None:
        """Refuse a mixture that this arm may not draw from; see `tckr.synthesizers.mixture.check_mixture`.

        Raises:
            UserError: a generator of it is refused.
        """
        check_mixture(self)

    @property
    def open_channels(self) -> tuple[str, ...]:
        """The channels that there are with these options: a filter and further generators tell of the members too."""
        mixed = [each.synthesizer for each in self.knowledge_recycling.mixture]
        further = [name for other in mixed if other is not None for name in other.channels]
        filters = [FILTER] if self.knowledge_recycling.filters else []
        return tuple(dict.fromkeys([*self.channels, *further, *filters]))

    @property
    def open_threats(self) -> tuple[str, ...]:
        """The threats that there are with these options: by default all that the arm has."""
        return self.threats

    @classmethod
    def partly(cls, **groups: Options) -> Self:
        """Return the arm with the groups alone that one of its steps reads, for running that step by itself."""
        return cls.model_construct(**groups)  # type: ignore[arg-type, return-value]

    @abstractmethod
    def plan_prompts(
        self,
        fitted: "Fitted",
        count: int,
        seed: int,
        *,
        nested: bool = False,
        closed: Collection[str] = (),
    ) -> pd.DataFrame:
        """Choose the prompts of `count` images, balanced over the classes.

        Args:
            fitted: of this synthesizer.
            count: synthetic images.
            seed: of the run.
            nested: balance every prefix too, so that the first n make a set of their own.
            closed: channels through which nothing private may pass.

        Returns:
            `prompt` and `label`, one row per image.
        """

    @abstractmethod
    def draw(
        self, fitted: "Fitted", prompts: Sequence[str], seed: int, *, closed: Collection[str] = ()
    ) -> Iterator["Tensor"]:
        """Yield one image per prompt in batches, uint8 (B, C, H, W), in order."""

    def draw_from(
        self,
        start: int,
        fitted: "Fitted",
        prompts: Sequence[str],
        seed: int,
        *,
        closed: Collection[str] = (),
    ) -> Iterator["Tensor"]:
        """Yield the images of `draw` from number `start` on, for a drawing that was interrupted.

        An arm that can draw any image by its number skips the others; by default they are drawn and dropped.
        """
        first = 0
        for batch in self.draw(fitted, prompts, seed, closed=closed):
            if first + len(batch) > start:
                yield batch[max(0, start - first) :]
            first += len(batch)

    def drawing(self) -> dict[str, Any]:
        """Return what of the options decides the images, given artefacts, prompts and seed: by default all of them."""
        aside = {"checkpoints", "release_prompts", "stored_views", "slices", "filter", "mixture"}
        return self.model_dump(mode="json", exclude={"knowledge_recycling": aside})

    def fit(
        self,
        private: PrivateSet,
        seed: int,
        device: str = "cpu",
        known: Mapping[str, Any] | None = None,
    ) -> "Fitted":
        """Run the steps that make what is not yet known.

        Args:
            private: images to fit on.
            seed: of the run; every step derives its own.
            device: where to compute.
            known: artefacts by name that were made before, aligned with `private`.
        """
        self.check()
        artefacts = self._made(self.steps, private, seed, device, known or {})
        mixture = self.with_unfitted(self.fit_mixture(private, seed, device, artefacts))
        return Fitted(self, private.facts, artefacts, device, artefacts.get("teacher"), mixture)

    def fit_mixture(
        self, private: PrivateSet, seed: int, device: str, known: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """Run the steps of each further generator of a mixture that is fitted, with its own seed.

        Args:
            private: the images that the arm was fitted on.
            seed: of the run.
            device: where to compute.
            known: per-image artefacts, aligned with `private`, which all generators of the same arm share.

        Returns:
            What images are drawn from, of each such generator, but for what they share.
        """
        shared = {name: known[name] for name in self.artefacts(per_image=True)}
        fits = []
        for each in self.knowledge_recycling.mixture:
            if not each.is_fitted:
                continue
            arm = each.synthesizer or self
            common = shared if arm is self else {}
            made = arm._made(arm.steps, private, each.seed_of(seed), device, common)
            aside = {*common, *arm.by_products}
            fits.append({name: made[name] for name in made if name not in aside})
        return fits

    def with_unfitted(self, fits: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
        """Return what each further generator draws from: nothing where there was nothing to fit.

        Raises:
            UserError: other generators were fitted than the options name.
        """
        mixture = self.knowledge_recycling.mixture
        wanted = sum(each.is_fitted for each in mixture)
        if wanted != len(fits):
            raise UserError(
                f"knowledge_recycling.mixture names {wanted} further generators to fit, and {len(fits)} were fitted.",
                "run the stage knowledge_recycling as a whole.",
            )
        fitted = iter(fits)
        return tuple(next(fitted) if each.is_fitted else {} for each in mixture)

    def fit_teacher(self, private: PrivateSet, seed: int, device: str = "cpu") -> Any:
        """Train the arm's own teacher on other private images: a shadow's, where the synthetic set is held fixed."""
        steps = [step for step in self.steps if step.name in self.own_teacher]
        return self._made(steps, private, seed, device, {})["teacher"]

    def _made(
        self,
        steps: Sequence[Step],
        private: PrivateSet,
        seed: int,
        device: str,
        known: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Return what is known and what the steps add to it."""
        artefacts = dict(known)
        for step in steps:
            if not set(step.makes) <= artefacts.keys():
                read = private if step.private else private.facts
                given = {name: artefacts[name] for name in self.read_by(step) if name in artefacts}
                made = getattr(self, step.name)(read, given, seed, device)
                artefacts |= zip(step.makes, made, strict=True)
        return artefacts

    def candidates(self, artefacts: Mapping[str, Any]) -> dict[int, int]:
        """Return the numbers of the snapshots that may be chosen, with the steps behind each; none unless an arm has some."""
        del artefacts
        return {}

    def with_choice(self, choice: "Choice") -> Self:
        """Return the arm with what was chosen in the place of its own hyper-parameters, for the target and every shadow."""
        raise TypeError(f"{type(self).__name__} chooses nothing, so that there is no {choice}")

    def caution(self) -> str | None:
        """Return why what this arm makes with these options is not to be handed out; None: nothing is known against it."""
        return None

    def count_cut(self, prompts: Sequence[str]) -> int:
        """Return how many prompts the generator does not read to their ends; 0 unless an arm knows better."""
        del prompts
        return 0

    def provenance(self) -> dict[str, str]:
        """Return columns that say of every synthetic image how it was made."""
        return {}

    def in_one_process(self) -> Self:
        """Return the same synthesizer for use inside a worker, which starts no further processes."""
        return self

    def estimate_fit(
        self, private: PrivateSet, known: Mapping[str, Any], device: str
    ) -> "tuple[float, Fitted]":
        """Estimate the seconds of a shadow's fit on half of these images; by default by timing a whole one.

        Returns:
            The seconds, and what a short fit gave, from which images can be drawn.
        """
        start = time.perf_counter()
        fitted = self.fit(private, 0, device, known)
        return time.perf_counter() - start, fitted

    @classmethod
    def read_by(cls, step: Step) -> tuple[str, ...]:
        """Return the names of the artefacts that one of the steps reads.

        Raises:
            ValueError: it names one that no earlier step makes, or that tells of one image to a step that reads none.
        """
        earlier = cls.steps[: cls.steps.index(step)]
        offered = [each for each in earlier if step.private or not each.per_image]
        names = tuple(name for each in offered for name in each.makes)
        if unknown := sorted(set(step.reads or ()) - set(names)):
            raise ValueError(
                f"{cls.__name__}.{step.name} may not read {', '.join(unknown)}: not made before it, or made of one image"
            )
        return names if step.reads is None else step.reads

    @classmethod
    def artefacts(cls, *, per_image: bool | None = None) -> tuple[str, ...]:
        """Return the names of what the steps make, in order; of all steps, or of those that are per image or not."""
        chosen = [s for s in cls.steps if per_image is None or s.per_image == per_image]
        return tuple(name for step in chosen for name in step.makes)

    @classmethod
    def ledger(cls) -> tuple[str, ...]:
        """Return the names of the arm's mechanisms under differential privacy; none means that nothing is proven."""
        return tuple(step.charges for step in cls.steps if step.charges)
