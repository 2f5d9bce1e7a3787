"""The seam between an arm and everything else: fit on some private images, then sample synthetic sets.

Target and shadow call the same synthesizer: a shadow fits it on other images with another seed, nothing else differs.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self

import pandas as pd
from pydantic import Field, model_validator

from tckr.errors import UserError
from tckr.options import Options
from tckr.synthesizers.filtering import FILTER, Filled, FilterOptions, Judge, fill
from tckr.synthesizers.mixture import MixedOptions, interleaved, turns

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from tckr.synthesizers.choice import Choice

# Images of a short trial on a GPU and on a CPU, few and many: the difference says how long one takes.
TRIAL_IMAGES = {"cuda": (64, 1024), "cpu": (8, 40)}
FEW = 500  # images for which no further process is started, once the first round is drawn


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
        description="further generators of the arm, each fitted anew with a seed of its own; images are drawn from all"
        " in turn",
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
        seeds = [each.seed for each in self.mixture]
        if len(set(seeds)) < len(seeds):
            raise ValueError("mixture has a seed twice: both would be the same generator")
        return self

    @property
    def weights(self) -> list[float]:
        """Images that each generator draws for one of the arm's own, which is the first."""
        return [1.0, *(each.weight for each in self.mixture)]

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
            shares = ", ".join(f"{100 * w / sum(self.weights):.0f} %" for w in self.weights)
            said.append(f"{len(self.weights)} generators of different seeds drew {shares} of it.")
        if self.slices > 1:
            said.append(
                f"The set has {self.slices:,} slices of {self.cardinality:g} x the members."
            )
        return said


def images_at(cardinality: float, members: int) -> int:
    """Return the number of synthetic images at a cardinality: at least one."""
    return max(1, round(cardinality * members))


@dataclass(frozen=True)
class PrivateSet:
    """Private images to fit on.

    Attributes:
        images: uint8 tensor (N, C, H, W); N PNGs will do for a step that reads one image after another.
        labels: int64 (N,).
        class_names: names of the classes 0, 1, ...
    """

    images: Any
    labels: "Tensor"
    class_names: Sequence[str]

    @property
    def facts(self) -> "PublicFacts":
        """What everybody may know of them."""
        return PublicFacts(len(self.labels), self.class_names, self.images.shape[1:])

    def at(self, rows: Sequence[int]) -> "PrivateSet":
        """Return the images at some rows."""
        from torch import Tensor

        from tckr.engine.rows import take

        chosen = list(rows)
        whole = self.images
        images = take(whole, chosen) if isinstance(whole, Tensor) else whole[chosen]
        return replace(self, images=images, labels=self.labels[chosen])


class SyntheticSet(NamedTuple):
    """Synthetic images.

    Attributes:
        images: uint8 (M, C, H, W).
        labels: int64 (M,), the classes of their prompts.
    """

    images: "Tensor"
    labels: "Tensor"


@dataclass(frozen=True)
class PublicFacts:
    """What an arm may know of the members without having seen one: everybody may know it, under differential privacy too.

    Attributes:
        n_members: members.
        class_names: names of the classes 0, 1, ..., as the owner names them, whether or not a member shows each.
        shape: channels, height and width of the images.
    """

    n_members: int
    class_names: Sequence[str]
    shape: Sequence[int]


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
        """Refuse a mixture where there is nothing to mix, or where each generator would cost its privacy again.

        Raises:
            UserError: the arm has a ledger, or fits no generator.
        """
        if not self.knowledge_recycling.mixture:
            return
        remedy = "set knowledge_recycling.mixture to []."
        if self.ledger():
            raise UserError(
                "knowledge_recycling.mixture fits further generators to the private images, and no mechanism of this arm's"
                " ledger pays for them.",
                remedy,
            )
        if not self.artefacts(per_image=False):
            raise UserError("This arm fits no generator of which there could be several.", remedy)

    @property
    def open_channels(self) -> tuple[str, ...]:
        """The channels that there are with these options: a filter tells of the members too."""
        return (*self.channels, FILTER) if self.knowledge_recycling.filters else self.channels

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
        mixture = self.fit_mixture(private, seed, device, artefacts)
        return Fitted(self, private.facts, artefacts, device, artefacts.get("teacher"), mixture)

    def fit_mixture(
        self, private: PrivateSet, seed: int, device: str, known: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """Run the steps again for each further generator of a mixture, with its own seed.

        Args:
            private: the images that the arm was fitted on.
            seed: of the run.
            device: where to compute.
            known: per-image artefacts, aligned with `private`, which all generators share.

        Returns:
            What images are drawn from, of each generator, but for what they share.
        """
        shared = {name: known[name] for name in self.artefacts(per_image=True)}
        aside = {*shared, *self.by_products}
        fits = [
            self._made(self.steps, private, each.seed_of(seed), device, shared)
            for each in self.knowledge_recycling.mixture
        ]
        return [{name: made[name] for name in made if name not in aside} for made in fits]

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


@dataclass(frozen=True)
class Fitted:
    """A synthesizer with what its steps made of some private images.

    Attributes:
        synthesizer: the arm.
        facts: what it knows of the private images beside the artefacts.
        artefacts: what the steps made, by name.
        device: where to draw.
        teacher: judges what is drawn, if the arm filters; that of the same private images.
        mixture: artefacts in the place of these for each further generator; see `Synthesizer.fit_mixture`.
    """

    synthesizer: Synthesizer
    facts: PublicFacts
    artefacts: Mapping[str, Any]
    device: str = "cpu"
    teacher: Any = None
    mixture: Sequence[Mapping[str, Any]] = ()
    loaded: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def class_names(self) -> Sequence[str]:
        """Names of the classes 0, 1, ..."""
        return self.facts.class_names

    @property
    def shape(self) -> Sequence[int]:
        """Channels, height and width of the images to draw."""
        return self.facts.shape

    def sample(
        self,
        count: int,
        seed: int,
        *,
        nested: bool = False,
        closed: Collection[str] = (),
        strict: bool = True,
    ) -> SyntheticSet:
        """Draw `count` images with the classes of their prompts; image i depends on the seed and i alone.

        Args:
            count: images.
            seed: of the run.
            nested: see `Synthesizer.plan_prompts`.
            closed: channels through which nothing private may pass; the filter is one.
            strict: see `tckr.synthesizers.filtering.fill`.
        """
        import torch

        from tckr.classifiers.predict import soft_labels
        from tckr.diffusion.sampling import gathered

        parts: list[Tensor] = []

        def look(prompts: Sequence[str], start: int) -> "Tensor":
            drawing = self.for_round(start, len(prompts))
            batches = drawing.draw_from(start, prompts, seed, closed=closed)
            parts.append(gathered(batches, len(prompts) - start))
            return parts[-1]

        plan = self.plan_prompts(count, seed, nested=nested, closed=closed)
        labels = torch.from_numpy(plan["label"].to_numpy(copy=True))
        if not self.filters(closed):
            return SyntheticSet(look(plan["prompt"].tolist(), 0), labels)
        numbers, _ = self.fill(
            plan, lambda *drawn: soft_labels(self.judge, look(*drawn)).numpy(), strict=strict
        )
        return SyntheticSet(gathered(_at(parts, numbers), count), labels)

    def for_round(self, start: int, count: int) -> "Fitted":
        """Return the same for a round of a filtered drawing, images `start` to `count`: few are drawn in this process.

        Starting others takes seconds, and there are several such rounds. It depends on the round alone, not on where a
        drawing was interrupted.
        """
        if not start or count - start > FEW:
            return self
        return replace(self, synthesizer=self.synthesizer.in_one_process())

    def filters(self, closed: Collection[str] = ()) -> bool:
        """Whether the teacher rejects images: not if that channel is closed."""
        return self.synthesizer.knowledge_recycling.filters and FILTER not in closed

    @property
    def judge(self) -> Any:
        """The teacher, where it judges.

        Raises:
            ValueError: there is none.
        """
        if self.teacher is None:
            raise ValueError("a filter needs the teacher of the same private images")
        return self.teacher.to(self.device)

    def fill(self, plan: pd.DataFrame, judge: Judge, *, strict: bool = True) -> Filled:
        """Draw until the teacher has accepted an image for every place; see `tckr.synthesizers.filtering.fill`."""
        options = self.synthesizer.knowledge_recycling.filter
        return fill(plan, options, self.class_names, judge, strict=strict)

    def plan_prompts(
        self, count: int, seed: int, *, nested: bool = False, closed: Collection[str] = ()
    ) -> pd.DataFrame:
        """Choose the prompts; see `Synthesizer.plan_prompts`. Each of several slices is balanced for itself."""
        nested = nested or self.synthesizer.knowledge_recycling.slices > 1
        return self.synthesizer.plan_prompts(self, count, seed, nested=nested, closed=closed)

    def draw(
        self, prompts: Sequence[str], seed: int, *, closed: Collection[str] = ()
    ) -> Iterator["Tensor"]:
        """Yield the images of the prompts in batches; see `Synthesizer.draw`."""
        return self.draw_from(0, prompts, seed, closed=closed)

    def draw_from(
        self, start: int, prompts: Sequence[str], seed: int, *, closed: Collection[str] = ()
    ) -> Iterator["Tensor"]:
        """Yield the images from number `start` on; see `Synthesizer.draw_from`. Several generators take turns."""
        if not self.mixture:
            return self.synthesizer.draw_from(start, self, prompts, seed, closed=closed)
        turn = self.turns(len(prompts))
        sources = []
        for which, (generator, own_seed) in enumerate(self._generators(seed)):
            own = [prompts[number] for number in (turn == which).nonzero()[0]]
            first = int((turn[:start] == which).sum())
            if first < len(own):
                sources.append(generator.draw_from(first, own, own_seed, closed=closed))
            else:
                sources.append(iter(()))
        return interleaved(sources, turn[start:])

    def turns(self, count: int) -> "NDArray[np.int64]":
        """Return which generator draws each image, 0 the arm's own; see `tckr.synthesizers.mixture.turns`."""
        return turns(self.synthesizer.knowledge_recycling.weights, count)

    def _generators(self, seed: int) -> "list[tuple[Fitted, int]]":
        """Return each generator of the mixture by itself, with the seed that it draws by."""
        mixed = self.synthesizer.knowledge_recycling.mixture
        own = [self.artefacts, *({**self.artefacts, **made} for made in self.mixture)]
        alone = self.once(
            "generators", lambda: [replace(self, artefacts=a, mixture=(), loaded={}) for a in own]
        )
        seeds = [seed, *(each.seed_of(seed) for each in mixed)]
        return list(zip(alone, seeds, strict=True))

    def drawing(self, prompts: Sequence[str], seed: int) -> str:
        """Return a name for drawing these prompts: 16 hex digits that change with whatever changes an image."""
        from tckr.engine.content import content_hash

        arm = type(self.synthesizer)
        return content_hash(
            f"{arm.__module__}.{arm.__qualname__}",
            self.synthesizer.drawing(),
            dict(self.artefacts),
            list(self.class_names),
            list(self.shape),
            list(prompts),
            seed,
            self.device,
            *self._filter(),
            *(
                [self.synthesizer.knowledge_recycling.model_dump()["mixture"], list(self.mixture)]
                if self.mixture
                else []
            ),
        )

    def _filter(self) -> list[Any]:
        """Return what decides which images stay; nothing if all do."""
        if not self.filters():
            return []
        options = self.synthesizer.knowledge_recycling.filter
        return [options.model_dump(mode="json"), dict(self.judge.state_dict())]

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """Return what `make` gives, made once per key: a generator is loaded once for all the sets drawn from it."""
        if key not in self.loaded:
            self.loaded[key] = make()
        return self.loaded[key]

    def seconds_per_image(self) -> float:
        """Estimate the duration of drawing one image on this machine, by two short trials."""
        few, many = TRIAL_IMAGES["cpu" if self.device == "cpu" else "cuda"]

        def seconds(count: int) -> float:
            start = time.perf_counter()
            self.sample(count, 0, closed=(FILTER,))
            return time.perf_counter() - start

        return slope(seconds, few, many)


def _at(parts: Sequence["Tensor"], numbers: "NDArray[np.int64]") -> "Iterator[Tensor]":
    """Yield the images of these numbers, one after another, of all that were drawn in parts."""
    import numpy as np

    ends = np.cumsum([len(part) for part in parts])
    for number in numbers.tolist():
        place = int(np.searchsorted(ends, number, side="right"))
        row = number - int(ends[place - 1] if place else 0)
        yield parts[place][row : row + 1]


def slope(seconds: Callable[[int], float], few: int, many: int) -> float:
    """Return the seconds that each further unit of work takes; the first call warms up."""
    seconds(few)
    short, long = seconds(few), seconds(many)
    return max(long - short, 0.0) / (many - few)


def extrapolated(
    trial: Callable[[int], tuple[float, "Fitted"]], few: int, many: int, steps: int
) -> "tuple[float, Fitted]":
    """Return the seconds that a fit of so many steps takes, from two short trials, and what one of them gave."""
    trial(few)  # the first one sets up libraries
    (short, fitted), (long, _) = trial(few), trial(many)
    each = max(long - short, 0.0) / (many - few)
    return max(short - few * each, 0.0) + each * steps, fitted


def class_prompts(class_names: Sequence[str]) -> tuple[list[str], list[int]]:
    """Return one bare prompt per class: its name.

    >>> class_prompts(["boot", "bag"])
    (['boot', 'bag'], [0, 1])
    """
    return list(class_names), list(range(len(class_names)))


def number_of(class_names: Sequence[str]) -> dict[str, int]:
    """Return the number of each class by its name."""
    return {name: number for number, name in enumerate(class_names)}
