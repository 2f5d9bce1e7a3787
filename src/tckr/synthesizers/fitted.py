"""A synthesizer with what its steps made of some private images, ready to sample."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from tckr.synthesizers.filtering import FILTER, Filled, Judge, fill
from tckr.synthesizers.mixture import SOURCE, interleaved, turns
from tckr.synthesizers.private_set import PublicFacts, SyntheticSet

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from tckr.synthesizers.base import Synthesizer

# Images of a short trial on a GPU and on a CPU, few and many: the difference says how long one takes.
TRIAL_IMAGES = {"cuda": (64, 1024), "cpu": (8, 40)}
FEW = 500  # images for which no further process is started, once the first round is drawn


@dataclass(frozen=True)
class Fitted:
    """A synthesizer with what its steps made of some private images.

    Attributes:
        synthesizer: the arm.
        facts: what it knows of the private images beside the artefacts.
        artefacts: what the steps made, by name.
        device: where to draw.
        teacher: judges what is drawn, if the arm filters; that of the same private images.
        mixture: what each further generator draws from: of the same arm, artefacts in the place of these; of another, all
            that its steps made; see `Synthesizer.fit_mixture`.
    """

    synthesizer: "Synthesizer"
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

        def look(planned: pd.DataFrame, start: int) -> "Tensor":
            drawing = self.for_round(start, len(planned))
            batches = drawing.draw_planned(start, planned, seed, closed=closed)
            parts.append(gathered(batches, len(planned) - start))
            return parts[-1]

        plan = self.plan_prompts(count, seed, nested=nested, closed=closed)
        labels = torch.from_numpy(plan["label"].to_numpy(copy=True))
        if not self.filters(closed):
            return SyntheticSet(look(plan, 0), labels)
        numbers, _ = self.fill(
            plan,
            lambda rows, start: soft_labels(self.judge, look(plan.iloc[rows], start)).numpy(),
            strict=strict,
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
        """Choose the prompts; see `Synthesizer.plan_prompts`. Each of several slices is balanced for itself.

        Of several generators `source` says which one draws a row, by its number, 0 the arm's own. One of another arm is
        prompted as that arm prompts, by its own artefacts; classes are those of the set as a whole.
        """
        nested = nested or self.synthesizer.knowledge_recycling.slices > 1
        plan = self.synthesizer.plan_prompts(self, count, seed, nested=nested, closed=closed)
        if not self.mixture:
            return plan
        plan = plan.assign(**{SOURCE: self.turns(count)})
        for which, (generator, own_seed) in enumerate(self._generators(seed)):
            own = plan[SOURCE] == which
            if type(generator.synthesizer) is not type(self.synthesizer) and own.any():
                labels = plan.loc[own, "label"].tolist()
                plan.loc[own, "prompt"] = generator.prompts_of(labels, own_seed, closed)
        return plan

    def prompts_of(
        self, labels: Sequence[int], seed: int, closed: Collection[str] = ()
    ) -> list[str]:
        """Choose a prompt for each of these classes, those of each class in the order of the arm's own plan."""
        most = max(Counter(labels).values())
        plan = self.plan_prompts(most * len(self.class_names), seed, nested=True, closed=closed)
        prompts = {label: iter(own["prompt"]) for label, own in plan.groupby("label")}
        return [next(prompts[label]) for label in labels]

    def draw(
        self, prompts: Sequence[str], seed: int, *, closed: Collection[str] = ()
    ) -> Iterator["Tensor"]:
        """Yield the images of the prompts in batches; see `Synthesizer.draw`."""
        return self.draw_from(0, prompts, seed, closed=closed)

    def draw_planned(
        self, start: int, plan: pd.DataFrame, seed: int, *, closed: Collection[str] = ()
    ) -> Iterator["Tensor"]:
        """Yield the images of the rows of a plan from number `start` on, each by the generator that the plan names."""
        turn = plan[SOURCE].to_numpy() if SOURCE in plan else None
        return self.draw_from(start, plan["prompt"].tolist(), seed, closed=closed, turn=turn)

    def draw_from(
        self,
        start: int,
        prompts: Sequence[str],
        seed: int,
        *,
        closed: Collection[str] = (),
        turn: "NDArray[np.int64] | None" = None,
    ) -> Iterator["Tensor"]:
        """Yield the images from number `start` on; see `Synthesizer.draw_from`. Several generators take turns.

        `turn` says which of them draws each image, int64 (N,); by default as their weights ask.
        """
        if not self.mixture:
            return self.synthesizer.draw_from(start, self, prompts, seed, closed=closed)
        turn = self.turns(len(prompts)) if turn is None else turn
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
        seeds = [seed, *(each.seed_of(seed) for each in mixed)]
        return list(zip(self.once("generators", self._alone), seeds, strict=True))

    def _alone(self) -> "list[Fitted]":
        """Return each generator of the mixture as if it were the only one."""
        own = replace(self, mixture=(), loaded={})
        generators = [own]
        mixed = self.synthesizer.knowledge_recycling.mixture
        for each, made in zip(mixed, self.mixture, strict=True):
            if each.synthesizer is None:
                further = replace(own, artefacts={**self.artefacts, **made}, loaded={})
            else:
                further = replace(own, synthesizer=each.synthesizer, artefacts=made, loaded={})
            generators.append(further)
        return generators

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
            *self._mixture(),
        )

    def _mixture(self) -> list[Any]:
        """Return what decides the images of further generators; nothing if there are none."""
        if not self.mixture:
            return []
        mixed = self.synthesizer.knowledge_recycling.mixture
        return [[each.drawing() for each in mixed], [dict(made) for made in self.mixture]]

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
