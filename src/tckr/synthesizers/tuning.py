"""Tuning: search for the way of sampling that makes the best short student (KR, arXiv 2407.15526; GaFi, arXiv 2305.10118).

GaFi searches the scale of the first noise, then the filter's threshold, one after the other on a grid. Here a tree of Parzen
estimators (Bergstra et al. 2011; Optuna) proposes all of them together, and a trial whose students fall below the median
of the earlier ones is given up. What a trial proposes, and whether it is given up, follows from its number and the finished trials
before its batch (`at_once`) alone: a search that was killed goes on where it stood, and ends with the same choice, whoever tries what.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tckr.engine import map_shards
from tckr.engine.device import best
from tckr.engine.seeds import derive
from tckr.synthesizers.choice import CHOSEN, Choice, ChoiceOptions, TuningOptions
from tckr.synthesizers.students import Examiner, Score, Sent, crew

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    from tckr.synthesizers.base import Synthesizer

STUDY = "study.db"
RUNGS = (0.25, 0.5, 1.0)  # of a trial's largest student, the shares of those on the way

NAMES = ("guidance_scale", "initial_noise_scale", "steps")  # of the sampling options
FILTER, THRESHOLD = "filter", "filter_threshold"  # whether there is one, and which

Values = dict[str, Any]
Judge = Callable[[Values, int], Score]
"""Called as `judge(values, rung)`."""


def tune(
    arm: "Synthesizer",
    snapshot: int | None,
    options: ChoiceOptions,
    examiner: Examiner,
    rows: list[dict[str, Any]],
) -> Choice:
    """Return the way of sampling that was found better than the arm's own, or that; a row for each student is added to `rows`.

    Args:
        arm: with its own sampling, of the snapshot that was chosen.
        snapshot: its number; None where there is one generator.
        options: of the choice.
        examiner: trains and scores students.
        rows: of the table of students.
    """
    recycling = arm.knowledge_recycling
    own = {
        **recycling.sampling.model_dump(),  # type: ignore[attr-defined]  # of arms that choose
        THRESHOLD: recycling.filter.threshold,
    }
    top = min(1.0, options.share * options.reduction)
    workers, devices = crew(options.tuning.at_once, options.workers)
    alone = arm.in_one_process() if workers > 1 else arm
    judge = _Students(alone, Sent(examiner, (snapshot,)), top)
    folder = examiner.study
    space = SearchSpace(options.tuning, own)
    study = search(space, judge, options.tuning, examiner.seed, folder, workers, devices)
    chosen = chosen_trial(study, len(examiner.validation[1]), options.tuning.standard_errors)
    done = _done(study)
    for number, trial in enumerate(done):
        state = CHOSEN if number == chosen else trial.state.name.lower()
        for rung, score in enumerate(trial.user_attrs["scores"]):
            rows.append(
                {
                    "part": "tuning",
                    "round": rung,
                    "trial": number,
                    "snapshot": None,
                    "steps": None,
                    "sampling": say_values(trial.params),
                    "share": top * RUNGS[rung],
                    **Score(*score)._asdict(),
                    "state": state,
                }
            )
    return as_choice(done[chosen].params)


@dataclass(frozen=True)
class _Students:
    """Judges values by students of an arm, of whose largest one `top` is the share."""

    arm: "Synthesizer"
    sent: Sent
    top: float

    def __call__(self, values: Values, rung: int) -> Score:
        arm = self.arm.with_choice(as_choice(values))
        return self.sent.examiner.score(arm, self.top * RUNGS[rung])


class SearchSpace:
    """The values that are searched, and those that stay."""

    def __init__(self, options: TuningOptions, own: Mapping[str, Any]) -> None:
        """Args: options: the ranges. own: the arm's own values, of the first trial."""
        self.options = options
        self.own: Values = {}
        for name in ("guidance_scale", "initial_noise_scale"):
            low, high = getattr(options, name)
            if low < high:
                self.own[name] = min(max(own[name], low), high)
        if len(options.steps) > 1:
            self.own["steps"] = own["steps"] if own["steps"] in options.steps else options.steps[0]
        if options.filter_threshold is not None:
            self.own[FILTER] = own[THRESHOLD] is not None
            if self.own[FILTER]:
                low, high = options.filter_threshold
                self.own[THRESHOLD] = min(max(own[THRESHOLD], low), high)

    def suggest(self, trial: "optuna.Trial") -> Values:
        """Return the values of a trial."""
        found: Values = {}
        for name in NAMES:
            if name in self.own and name == "steps":
                found[name] = trial.suggest_categorical(name, list(self.options.steps))
            elif name in self.own:
                found[name] = trial.suggest_float(name, *getattr(self.options, name))
        if self.options.filter_threshold is not None:
            found[FILTER] = trial.suggest_categorical(FILTER, [False, True])
            if found[FILTER]:
                found[THRESHOLD] = trial.suggest_float(THRESHOLD, *self.options.filter_threshold)
        return found


def as_choice(values: Values) -> Choice:
    """Return values that were tried as a choice.

    >>> as_choice({"guidance_scale": 1.5, "filter": True, "filter_threshold": 0.25}).filter
    {'threshold': 0.25}
    """
    sampling = {name: values[name] for name in NAMES if name in values}
    judged = {"threshold": values.get(THRESHOLD)} if FILTER in values else {}
    return Choice(sampling=sampling, filter=judged)


def search(
    space: SearchSpace,
    judge: Judge,
    options: TuningOptions,
    seed: int,
    folder: Path | None = None,
    workers: int = 1,
    devices: Sequence[str] = (),
) -> "optuna.Study":
    """Try values until the budget is spent, those of an earlier, killed search included.

    Args:
        space: of the values.
        judge: scores values at each rung; the same every time it is asked about the same.
        options: budget and pruning.
        seed: of the proposals.
        folder: of the study's SQLite file; None: in memory.
        workers: see `tckr.engine.map_shards`, as `devices`.

    Returns:
        The study, with at least one finished trial.

    Raises:
        ShardError: a trial failed; its cause says why.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        study_name="tuning",
        storage=None if folder is None else f"sqlite:///{folder / STUDY}",
        direction="maximize",
        load_if_exists=True,
    )
    wanted = options.trials if space.own else 1
    while (count := len(done := _done(study))) < wanted:
        spent = sum(score[-1] for trial in done for score in trial.user_attrs["scores"])
        if done and options.minutes is not None and spent >= 60 * options.minutes:
            break
        begin = count // options.at_once * options.at_once  # of a batch, which may be half done
        batch = range(count, min(begin + options.at_once, wanted))
        known = done[:begin]
        trials = [_propose(number, known, space, seed) for number in batch]
        judged = map_shards(
            _try, trials, workers, "trials", shared=_Search(judge, known, options), devices=devices
        )
        for trial, scores in zip(trials, judged, strict=True):
            study.add_trial(_finished(trial, [Score(**score) for score in scores]))
    return study


class _Trial(NamedTuple):
    """Values that are proposed: the number of the trial, and which values may take their place."""

    number: int
    values: Values
    ranges: "dict[str, BaseDistribution]"

    def __str__(self) -> str:
        return f"trial {self.number}"


@dataclass(frozen=True)
class _Search:
    """What all trials of a batch read: what is known before it."""

    judge: Judge
    known: "list[FrozenTrial]"
    options: TuningOptions


def _propose(number: int, known: "Sequence[FrozenTrial]", space: SearchSpace, seed: int) -> _Trial:
    """Return the values of a trial, which follow from its number and the trials that are known alone."""
    import optuna

    study = _study(known)
    study.sampler = optuna.samplers.TPESampler(seed=derive(seed, "trial", number))
    if not number:
        study.enqueue_trial(space.own)
    trial = study.ask()
    return _Trial(number, space.suggest(trial), dict(trial.distributions))


def _try(trial: _Trial, search: _Search) -> list[dict[str, Any]]:
    """Return the scores of one proposal, rung by rung, until it is given up or the last student is scored."""
    from optuna.pruners import MedianPruner

    best()  # a worker starts with torch's own settings, under which equal students may come out unequal
    study = _study(search.known)
    study.pruner = MedianPruner(n_startup_trials=search.options.prune_after)
    own, scores = study.ask(), []
    for rung in range(len(RUNGS)):
        score = search.judge(trial.values, rung)
        scores.append(score._asdict())
        own.report(score.accuracy, rung)
        if own.should_prune():
            break
    return scores


def _study(known: "Sequence[FrozenTrial]") -> "optuna.Study":
    """Return a study in memory that knows some trials."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # in a worker too, which is told nothing
    study = optuna.create_study(direction="maximize")
    study.add_trials(known)
    return study


def _finished(trial: _Trial, scores: Sequence[Score]) -> "FrozenTrial":
    from optuna.trial import TrialState, create_trial

    whole = len(scores) == len(RUNGS)
    return create_trial(
        state=TrialState.COMPLETE if whole else TrialState.PRUNED,
        value=scores[-1].accuracy if whole else None,
        params=trial.values,
        distributions=trial.ranges,
        user_attrs={"scores": [list(score) for score in scores]},
        intermediate_values={rung: score.accuracy for rung, score in enumerate(scores)},
    )


def chosen_trial(study: "optuna.Study", n_validation: int, standard_errors: float = 0.0) -> int:
    """Return the number of the trial to go with: the best, or the first, the arm's own, where the best is hardly better.

    The best finished trial has the highest accuracy p; of several the one of least loss, then the earliest. It is hardly better
    if p less `standard_errors` x sqrt(p (1 - p) / n_validation) is at or below the first one's accuracy (Breiman et al. 1984,
    Classification and Regression Trees, section 3.4.3).
    """
    from optuna.trial import TrialState

    scores = {
        number: Score(*trial.user_attrs["scores"][-1])
        for number, trial in enumerate(_done(study))
        if trial.state == TrialState.COMPLETE
    }
    best = max(scores, key=lambda number: scores[number].rank)
    share = scores[best].accuracy / 100
    margin = 100 * standard_errors * (share * (1 - share) / n_validation) ** 0.5
    return best if scores[best].accuracy - margin > scores[0].accuracy or not margin else 0


def say_values(values: Values) -> str:
    """Say values in a few words.

    >>> say_values({"guidance_scale": 1.25, "filter": False})
    'guidance_scale 1.25, no filter'
    """
    words = {True: "", False: "no filter"}
    said = [words[v] if k == FILTER else f"{k} {v:.4g}" for k, v in values.items()]
    return ", ".join(word for word in said if word)


def _done(study: "optuna.Study") -> "list[optuna.trial.FrozenTrial]":
    """Return the trials that count, in order: finished or given up."""
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
