"""Short students that say how good what a generator draws is, trained side by side where there are workers.

Candidates differ in the generator or in how it is sampled, and in nothing else: prompts, first noise and the student's seed are the
same. A score depends on the candidate and its share alone, not on who trains the student or when.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tckr.classifiers.options import DistillationOptions
from tckr.engine import map_shards, resolve_workers
from tckr.engine.content import content_hash
from tckr.engine.device import best
from tckr.engine.rows import Shared, SharedTensors
from tckr.engine.seeds import derive

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from tckr.classifiers.options import ClassifierOptions
    from tckr.engine.checkpoint import Checkpoint, Checkpoints
    from tckr.synthesizers.base import Synthesizer
    from tckr.synthesizers.private_set import PublicFacts


class Score(NamedTuple):
    """How good a short student was.

    Attributes:
        accuracy: on the validation images, percent.
        loss: cross-entropy there, which breaks ties.
        images: that it was trained on.
        seconds: of drawing and training.
    """

    accuracy: float
    loss: float
    images: int
    seconds: float

    @property
    def rank(self) -> tuple[float, float]:
        """The larger, the better."""
        return self.accuracy, -self.loss


@dataclass(frozen=True)
class Examiner:
    """Trains short students on what candidates draw and scores them; candidates differ in nothing else, seeds included.

    Attributes:
        artefacts: of the arm.
        facts: what the arm may know of the members.
        teacher: whose labels the students learn.
        recipe: of the students.
        steps: optimizer steps of the teacher.
        distillation: of the short students.
        validation: images uint8 (V, C, H, W) and labels int64 (V,); never the test split.
        seed: of the choice, apart from that of the final images.
        device: where to compute.
        scores: those of an earlier, killed choice are found here; None: nothing is kept.
        study: folder in which a killed search finds its trials; None: nothing is kept.
    """

    artefacts: Mapping[str, Any]
    facts: "PublicFacts"
    teacher: "nn.Module | None"
    recipe: "ClassifierOptions"
    steps: int
    distillation: DistillationOptions
    validation: "tuple[Tensor, Tensor]"
    seed: int
    device: str = "cpu"
    scores: "Checkpoints | None" = None
    study: Path | None = None
    drawn: "dict[str, Tensor]" = field(default_factory=dict, compare=False, repr=False)
    loaded: dict[str, dict[Any, Any]] = field(default_factory=dict, compare=False, repr=False)

    def score(self, arm: "Synthesizer", share: float) -> Score:
        """Return the score of a candidate's student that has a share of the final student's images and steps."""
        found = self.known(arm, share)
        if found is None:
            found = self._examine(arm, share, self._name(arm))
            if (kept := self._kept(arm, share)) is not None:
                kept[0].save(kept[1], found._asdict())
        return found

    def known(self, arm: "Synthesizer", share: float) -> Score | None:
        """Return the score if this student was trained before, by whoever did the same work."""
        kept = self._kept(arm, share)
        saved = kept[0].load(kept[1]) if kept else None
        return Score(**saved) if saved else None

    def _name(self, arm: "Synthesizer") -> str:
        kept_images = arm.knowledge_recycling.filter.model_dump(mode="json")
        return content_hash(arm.drawing(), kept_images)

    def _kept(self, arm: "Synthesizer", share: float) -> "tuple[Checkpoint, dict[str, Any]] | None":
        """Return where the score is kept, and what tells it from others."""
        about = {"candidate": self._name(arm), "share": share}
        return (self.scores.of(f"score_{content_hash(about)}"), about) if self.scores else None

    def _examine(self, arm: "Synthesizer", share: float, name: str) -> Score:
        from torch.nn import functional

        from tckr.classifiers.distillation import train_student
        from tckr.classifiers.predict import logits

        start = time.perf_counter()
        images, labels = self._draw(arm, share, name)
        # Of one slice alone, and by one label a view: as the final student's, but for its length.
        brief = {"patience": self.distillation.patience * share, "views": 1, "regenerate": None}
        student = train_student(
            images,
            labels,
            self.recipe.model_copy(
                update={"compile": False}
            ),  # so short a training does not repay it
            derive(self.seed, "student"),
            len(self.facts.class_names),
            distillation=self.distillation.model_copy(update=brief),
            steps=self.steps,
            teacher=self.teacher,
            device=self.device,
        )
        pixels, classes = self.validation
        predicted = logits(student.to(self.device), pixels)
        return Score(
            100 * float((predicted.argmax(1) == classes).double().mean()),
            float(functional.cross_entropy(predicted, classes)),
            len(images),
            time.perf_counter() - start,
        )

    def _draw(
        self, arm: "Synthesizer", share: float, name: str
    ) -> "tuple[torch.Tensor, torch.Tensor]":
        """Return the first images of the candidate's set, balanced; asked again for more, it draws only those."""
        import torch

        from tckr.diffusion.sampling import gathered
        from tckr.synthesizers.fitted import Fitted
        from tckr.synthesizers.recycling import images_at

        loaded = self._generator_of(arm)
        fitted = Fitted(arm, self.facts, self.artefacts, self.device, self.teacher, loaded=loaded)
        whole = images_at(arm.knowledge_recycling.cardinality, self.facts.n_members)
        count = min(whole, max(len(self.facts.class_names), round(share * whole)))
        if fitted.filters():
            return fitted.sample(count, self.seed, nested=True, strict=False)
        plan = fitted.plan_prompts(whole, self.seed, nested=True).head(count)
        if name not in self.drawn:
            self.drawn.clear()  # one candidate's images at a time
        before = self.drawn.get(name, torch.empty(0, dtype=torch.uint8))
        if len(before) < count:
            batches = fitted.draw_from(len(before), plan["prompt"].tolist(), self.seed)
            whole_set = chain([before], batches) if len(before) else batches
            before = self.drawn[name] = gathered(whole_set, count)
        return before[:count], torch.from_numpy(plan["label"].to_numpy(copy=True))

    def _generator_of(self, arm: "Synthesizer") -> dict[Any, Any]:
        """Return what the last candidate loaded, if this one samples the same generator."""
        same = content_hash({k: v for k, v in arm.drawing().items() if k != "sampling"})
        if same not in self.loaded:
            self.loaded.clear()
        return self.loaded.setdefault(same, {})


class Student(NamedTuple):
    """A short student to be trained.

    Attributes:
        name: in messages.
        arm: the candidate.
        snapshot: the number of the generator's snapshot that it samples; None where there is one generator.
        share: of the final student's images and steps.
    """

    name: str
    arm: "Synthesizer"
    snapshot: int | None
    share: float

    def __str__(self) -> str:
        return self.name


def examine(examiner: Examiner, students: Sequence[Student], workers: int = 1) -> list[Score]:
    """Return the score of each student; those that are known are not trained again.

    Args:
        examiner: trains and scores them.
        students: of different names.
        workers: processes on a CPU; GPUs and the workers of a cluster have one student each at a time.

    Raises:
        ShardError: a student could not be trained; its cause says why.
    """
    found = [examiner.known(student.arm, student.share) for student in students]
    missing = [one for one, score in zip(students, found, strict=True) if score is None]
    workers, devices = crew(len(missing), workers)
    if workers > 1:
        missing = [one._replace(arm=one.arm.in_one_process()) for one in missing]
    work = Sent(examiner, tuple(one.snapshot for one in missing))
    new = iter(map_shards(_score, missing, workers, "short students", shared=work, devices=devices))
    return [Score(**next(new)) if score is None else score for score in found]


def crew(count: int, workers: int) -> tuple[int, list[str]]:
    """Return how many processes train so many students side by side, and on which GPUs; one of them is this process."""
    if count < 2:
        return 1, []
    found, devices = resolve_workers()
    return found or workers, devices


@dataclass(frozen=True)
class Sent:
    """An examiner on its way to other processes, with some snapshots alone; they map its weights and images.

    Attributes:
        examiner: as it is in this process.
        snapshots: that are needed there; None stands for an arm with one generator.
    """

    examiner: Examiner
    snapshots: tuple[int | None, ...] = ()

    @cached_property
    def _light(self) -> Examiner:
        artefacts = {name: self._of(made) for name, made in self.examiner.artefacts.items()}
        pixels, labels = self.examiner.validation
        shared: Any = Shared(pixels)
        seen = (shared, labels)
        return replace(
            self.examiner, artefacts=artefacts, validation=seen, drawn={}, loaded={}, study=None
        )

    def _of(self, made: Any) -> Any:
        from tckr.diffusion.snapshots import Snapshots

        if not isinstance(made, Snapshots):
            return made
        return replace(
            made,
            denoisers={
                number: replace(kept, weights=SharedTensors(kept.weights))
                for number, kept in made.denoisers.items()
                if number in self.snapshots
            },
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return Sent, (self._light, self.snapshots)


def _score(student: Student, sent: Sent) -> dict[str, Any]:
    """Return the fields of a student's score: plain values travel."""
    best()  # a worker starts with torch's own settings, under which equal students may come out unequal
    return sent.examiner.score(student.arm, student.share)._asdict()
