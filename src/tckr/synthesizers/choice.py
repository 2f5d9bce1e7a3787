"""Choose the generator by the student that it makes: Checkpoint Optimisation, then Tuning (KR, arXiv 2407.15526).

Each candidate, a snapshot of the generator or a way to sample it, draws images; a short student is trained on them with the
teacher's labels; its accuracy on the *validation* images decides, never that on the test images. The snapshots compete by
successive halving (Jamieson & Talwalkar 2016, arXiv 1502.07943, Algorithm 1): the better half goes on with more images and steps.

Validation images are private and nothing here adds noise, so that an arm with a ledger is refused.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
from pydantic import Field, model_validator

from tckr.classifiers.options import DistillationOptions
from tckr.errors import UserError
from tckr.options import Options

if TYPE_CHECKING:
    from tckr.synthesizers.base import Synthesizer
    from tckr.synthesizers.students import Examiner, Score

COLUMNS = [
    *("part", "round", "trial", "snapshot", "steps", "sampling", "share", "images"),
    *("accuracy", "loss", "seconds", "state"),
]
CHOSEN = "chosen"  # the state of the winner's students; of others `complete`, or `pruned` where a trial was given up


class TuningOptions(Options):
    """The search for a way to sample: which ranges, and for how long.

    A range of one value is not searched. The first trial is the arm's own sampling, so that nothing is chosen that did worse,
    or too little better to tell it from noise.
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
    standard_errors: float = Field(
        1.0,
        ge=0,
        description="the arm's own sampling stays unless the best accuracy is above its own by so many standard errors of the"
        " validation images (the one-standard-error rule: Breiman et al. 1984, section 3.4.3); 0: the best is taken",
    )
    at_once: int = Field(
        1,
        ge=1,
        description="trials that are proposed from the same earlier ones, so that they can be tried side by side; each"
        " then knows less",
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
    workers: int = Field(
        1,
        ge=1,
        description="processes that train short students side by side on a CPU, on one thread each; several GPUs, or the"
        " workers of a cluster, have a student each",
    )
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


def choose(
    arm: "Synthesizer", options: ChoiceOptions, examiner: "Examiner"
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

        found = tune(arm.with_choice(choice), choice.snapshot, options, examiner, rows)
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
    candidates: Sequence[int], scores: "Callable[[list[int], int], Sequence[Score]]", reduction: int
) -> tuple[int, list[list[int]]]:
    """Return the winner of successive halving, and who was in each round.

    Args:
        candidates: numbers, at least one; of two that are equal the earlier wins.
        scores: called as `scores(candidates, round)`, which may score them side by side.
        reduction: one in so many goes on.

    >>> from tckr.synthesizers.students import Score
    >>> scores = lambda some, round: [Score([1, 4, 3, 2][each], 0, 1, 1) for each in some]
    >>> winner, rounds = halved([0, 1, 2, 3], scores, 2)
    >>> winner, rounds
    (1, [[0, 1, 2, 3], [1, 2]])
    """
    alive, rounds = list(candidates), []
    while len(alive) > 1:
        rounds.append(list(alive))
        found = dict(zip(alive, scores(alive, len(rounds) - 1), strict=True))
        best = sorted(alive, key=lambda each: found[each].rank, reverse=True)
        alive = sorted(best[: max(1, math.ceil(len(alive) / reduction))])
    return alive[0], rounds


def _halve(
    arm: "Synthesizer",
    candidates: Mapping[int, int],
    options: ChoiceOptions,
    examiner: "Examiner",
    rows: list[dict[str, Any]],
) -> int:
    """Return the number of the best snapshot; a row for each student is added to `rows`."""
    from tckr.synthesizers.students import Student, examine

    def scores(alive: list[int], turn: int) -> "list[Score]":
        share = min(1.0, options.share * options.reduction**turn)
        students = [
            Student(
                f"snapshot {number}, round {turn}",
                arm.with_choice(Choice(snapshot=number)),
                number,
                share,
            )
            for number in alive
        ]
        found = examine(examiner, students, options.workers)
        rows.extend(
            {
                "part": "snapshot",
                "round": turn,
                "trial": None,
                "snapshot": number,
                "steps": candidates[number],
                "sampling": "",
                "share": share,
                **score._asdict(),
                "state": "complete",
            }
            for number, score in zip(alive, found, strict=True)
        )
        return found

    winner, _ = halved(sorted(candidates), scores, options.reduction)
    for row in rows:
        if row["snapshot"] == winner:
            row["state"] = CHOSEN
    return winner
