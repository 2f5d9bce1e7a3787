"""Choose the generator by the student that it makes: Checkpoint Optimisation, then Tuning (KR, arXiv 2407.15526).

Each candidate, a snapshot of the generator or a way to sample it, draws images; a short student is trained on them with the
teacher's labels; its accuracy on the *validation* images decides, never that on the test images. The snapshots compete by
successive halving (Jamieson & Talwalkar 2016, arXiv 1502.07943, Algorithm 1): the better half goes on with more images and steps.

Validation images are private and nothing here adds noise, so that an arm with a ledger is refused.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import pandas as pd
from pydantic import Field, model_validator

from tckr.classifiers.options import DistillationOptions
from tckr.engine.seeds import derive
from tckr.errors import UserError
from tckr.options import Options

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from tckr.classifiers.options import ClassifierOptions
    from tckr.engine.checkpoint import Checkpoints
    from tckr.synthesizers.base import Synthesizer
    from tckr.synthesizers.private_set import PublicFacts

COLUMNS = [
    *("part", "round", "trial", "snapshot", "steps", "sampling", "share", "images"),
    *("accuracy", "loss", "seconds", "state"),
]


class TuningOptions(Options):
    """The search for a way to sample: which ranges, and for how long.

    A range of one value is not searched. The first trial is the arm's own sampling, so that nothing is chosen that did worse.
    """

    trials: int = Field(0, ge=0, le=10_000, description="trials at most; 0: no search")
    minutes: float | None = Field(
        None,
        gt=0,
        description="no further trial begins after so many, those of a killed search included; what is found then"
        " depends on the machine's speed",
    )
    guidance_scale: tuple[float, float] = Field(
        (1.0, 3.0), description="from and to, of classifier-free guidance"
    )
    steps: tuple[int, ...] = Field((6,), min_length=1, description="numbers of denoising steps")
    initial_noise_scale: tuple[float, float] = Field(
        (1.0, 1.5),
        description="from and to; the published expansion trick goes to 2 with the latents of a GAN",
    )
    filter_threshold: tuple[float, float] | None = Field(
        None,
        description="from and to, of the teacher's filter, which is also tried without; null: it stays as it is",
    )
    prune_after: int = Field(
        4, ge=1, description="trials that are finished before the first one may be given up early"
    )

    @model_validator(mode="after")
    def _ascending(self) -> "TuningOptions":
        for name in ("guidance_scale", "initial_noise_scale"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} must be 0 < from <= to")
        if self.filter_threshold is not None:
            low, high = self.filter_threshold
            if not 0 <= low <= high < 1:
                raise ValueError("filter_threshold must be 0 <= from <= to < 1")
        return self


class ChoiceOptions(Options):
    """How the generator is chosen by short students, on the validation images."""

    snapshots: Literal["halving", "last"] = Field(
        "halving", description="successive halving, or no choice: the last snapshot"
    )
    share: float = Field(
        0.25,
        gt=0,
        le=1,
        description="images and steps of a student in the first round, as a share of the final student's",
    )
    student: DistillationOptions = Field(
        DistillationOptions(),
        description="how the short students learn, whatever the final one's labels are, so that another final student"
        " needs no other generator; its patience is that of a student with share 1",
    )
    reduction: int = Field(
        2,
        ge=2,
        description="of a round's candidates one in so many goes on, with so many times more",
    )
    tuning: TuningOptions = TuningOptions()
    checkpoints: str | None = Field(
        None, description="folder in which a killed choice finds what it knew, to go on from there"
    )

    @property
    def nothing(self) -> bool:
        """Whether no student is asked."""
        return self.snapshots == "last" and not self.tuning.trials

    def describe(self) -> str:
        """Say in a few words what the stage will do."""
        parts = ["the snapshot by successive halving"] if self.snapshots == "halving" else []
        if self.tuning.trials:
            parts.append(f"the sampling by at most {self.tuning.trials} trials")
        return f"choose {' and '.join(parts)}, on validation images" if parts else "choose nothing"


class Choice(Options):
    """What was chosen: hyper-parameters of the target and of every shadow."""

    snapshot: int | None = Field(
        None, description="number of the snapshot; null: there is no choice"
    )
    sampling: dict[str, int | float] = Field({}, description="values of the sampling options")
    filter: dict[str, float | None] = Field({}, description="values of the filter's options")


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
    drawn: "dict[str, Tensor]" = field(default_factory=dict, compare=False, repr=False)
    loaded: dict[str, dict[Any, Any]] = field(default_factory=dict, compare=False, repr=False)

    def score(self, arm: "Synthesizer", share: float) -> Score:
        """Return the score of a candidate's student that has a share of the final student's images and steps."""
        from tckr.engine.content import content_hash

        kept_images = arm.knowledge_recycling.filter.model_dump(mode="json")
        name = content_hash(arm.drawing(), kept_images)
        about = {"candidate": name, "share": share}
        kept = self.scores.of(f"score_{content_hash(about)}") if self.scores else None
        saved = kept.load(about) if kept else None
        if saved is None:
            saved = self._examine(arm, share, name)._asdict()
            if kept:
                kept.save(about, saved)
        return Score(**saved)

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
        from tckr.engine.content import content_hash

        same = content_hash({k: v for k, v in arm.drawing().items() if k != "sampling"})
        if same not in self.loaded:
            self.loaded.clear()
        return self.loaded.setdefault(same, {})


def choose(
    arm: "Synthesizer", options: ChoiceOptions, examiner: Examiner
) -> tuple[Choice, pd.DataFrame]:
    """Choose the snapshot, then the way to sample it.

    Args:
        arm: with its own sampling.
        options: rounds and search.
        examiner: trains and scores the students.

    Returns:
        The choice, and a row for each student that was trained (`COLUMNS`).

    Raises:
        UserError: the arm has a ledger, or there is no validation image.
    """
    check_may_choose(arm)
    check_validation(len(examiner.validation[1]))
    rows: list[dict[str, Any]] = []
    choice, candidates = the_last(arm, examiner.artefacts), arm.candidates(examiner.artefacts)
    if options.snapshots == "halving" and len(candidates) > 1:
        choice = Choice(snapshot=_halve(arm, candidates, options, examiner, rows))
    if options.tuning.trials:
        from tckr.synthesizers.tuning import tune

        found = tune(arm.with_choice(choice), options, examiner, rows)
        choice = found.model_copy(update={"snapshot": choice.snapshot})
    return choice, as_table(rows)


def the_last(arm: "Synthesizer", artefacts: Mapping[str, Any]) -> Choice:
    """Return the choice of the last snapshot, if there are several, sampled as configured: no student is asked."""
    return Choice(snapshot=max(arm.candidates(artefacts), default=None))


def as_table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return a row for each student that was trained, of `COLUMNS`."""
    whole = dict.fromkeys(("trial", "snapshot", "steps"), "Int64")
    return pd.DataFrame(rows, columns=COLUMNS).astype(whole)


def check_may_choose(arm: "Synthesizer") -> None:
    """Check that the arm proves nothing that a choice by private images would break.

    Raises:
        UserError: it has a ledger.
    """
    if type(arm).ledger():
        raise UserError(
            f"{type(arm).__name__} is under differential privacy: choosing by private validation images adds no noise, and"
            " nothing in its ledger pays for it.",
            "fix its hyper-parameters by public images, or choose by synthetic ones.",
        )


def check_validation(count: int) -> None:
    """Check that there are images by which to choose.

    Raises:
        UserError: there is none.
    """
    if not count:
        raise UserError(
            "Nothing can be chosen: there is no validation image.",
            "raise ingestion.validation, or set generator_choice.snapshots: last and generator_choice.tuning.trials: 0.",
        )


def halved(
    candidates: Sequence[int], score: Callable[[int, int], Score], reduction: int
) -> tuple[int, list[list[int]]]:
    """Return the winner of successive halving, and who was in each round.

    Args:
        candidates: numbers, at least one; of two that are equal the earlier wins.
        score: called as `score(candidate, round)`.
        reduction: one in so many goes on.

    >>> winner, rounds = halved([0, 1, 2, 3], lambda c, r: Score([1, 4, 3, 2][c], 0, 1, 1), 2)
    >>> winner, rounds
    (1, [[0, 1, 2, 3], [1, 2]])
    """
    alive, rounds = list(candidates), []
    while len(alive) > 1:
        rounds.append(list(alive))
        scores = {each: score(each, len(rounds) - 1) for each in alive}
        best = sorted(alive, key=lambda each: scores[each].rank, reverse=True)
        alive = sorted(best[: max(1, math.ceil(len(alive) / reduction))])
    return alive[0], rounds


def _halve(
    arm: "Synthesizer",
    candidates: Mapping[int, int],
    options: ChoiceOptions,
    examiner: Examiner,
    rows: list[dict[str, Any]],
) -> int:
    """Return the number of the best snapshot; a row for each student is added to `rows`."""

    def score(number: int, turn: int) -> Score:
        share = min(1.0, options.share * options.reduction**turn)
        found = examiner.score(arm.with_choice(Choice(snapshot=number)), share)
        rows.append(
            {
                "part": "snapshot",
                "round": turn,
                "trial": None,
                "snapshot": number,
                "steps": candidates[number],
                "sampling": "",
                "share": share,
                **found._asdict(),
                "state": "complete",
            }
        )
        return found

    winner, _ = halved(sorted(candidates), score, options.reduction)
    return winner


def folder_of(options: ChoiceOptions, *work: Any) -> Path | None:
    """Return where a choice keeps what it knows, apart from every other choice; None: nowhere.

    Args:
        options: of the choice.
        work: everything that decides the scores.
    """
    from tckr.engine.content import content_hash

    return Path(options.checkpoints) / content_hash(*work) if options.checkpoints else None
