"""Tuning: search for the way of sampling that makes the best short student (KR, arXiv 2407.15526; GaFi, arXiv 2305.10118).

GaFi searches the scale of the first noise, then the filter's threshold, one after the other on a grid. Here a tree of Parzen
estimators (Bergstra et al. 2011; Optuna) proposes all of them together, and a trial whose students fall below the median
of the earlier ones is given up. The study lies in SQLite: a search that was killed goes on where it stood, and ends with the same
choice, because the sampler of each trial gets a seed of its own and knows nothing but the trials before.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tckr.engine.seeds import derive
from tckr.synthesizers.choice import Choice, ChoiceOptions, Examiner, Score, TuningOptions

if TYPE_CHECKING:
    import optuna

    from tckr.synthesizers.base import Synthesizer

STUDY = "study.db"
RUNGS = (0.25, 0.5, 1.0)  # of a trial's largest student, the shares of those on the way

NAMES = ("guidance_scale", "initial_noise_scale", "steps")  # of the sampling options
FILTER, THRESHOLD = "filter", "filter_threshold"  # whether there is one, and which

Values = dict[str, Any]
Judge = Callable[[Values, int], Score]
"""Called as `judge(values, rung)`."""


def tune(
    arm: "Synthesizer", options: ChoiceOptions, examiner: Examiner, rows: list[dict[str, Any]]
) -> Choice:
    """Return the way of sampling that was found best; a row for each student is added to `rows`."""
    recycling = arm.knowledge_recycling
    own = {
        **recycling.sampling.model_dump(),  # type: ignore[attr-defined]  # of arms that choose
        THRESHOLD: recycling.filter.threshold,
    }
    top = min(1.0, options.share * options.reduction)

    def judge(values: Values, rung: int) -> Score:
        return examiner.score(arm.with_choice(as_choice(values)), top * RUNGS[rung])

    folder = examiner.scores.folder if examiner.scores else None
    space = SearchSpace(options.tuning, own)
    study = search(space, judge, options.tuning, examiner.seed, folder)
    for number, trial in enumerate(_done(study)):
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
                    "state": trial.state.name.lower(),
                }
            )
    return as_choice(best_values(study))


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
    space: SearchSpace, judge: Judge, options: TuningOptions, seed: int, folder: Path | None = None
) -> "optuna.Study":
    """Try values until the budget is spent, those of an earlier, killed search included.

    Args:
        space: of the values.
        judge: scores values at each rung; the same every time it is asked about the same.
        options: budget and pruning.
        seed: of the proposals.
        folder: of the study's SQLite file; None: in memory.

    Returns:
        The study, with at least one finished trial.
    """
    import optuna
    from optuna.trial import TrialState

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        study_name="tuning",
        storage=None if folder is None else f"sqlite:///{folder / STUDY}",
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=options.prune_after),
        load_if_exists=True,
    )
    for cut in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(
            cut.number, state=TrialState.FAIL
        )  # it was killed: its values are proposed again
    while len(done := _done(study)) < (options.trials if space.own else 1):
        spent = sum(score[-1] for trial in done for score in trial.user_attrs["scores"])
        if done and options.minutes is not None and spent >= 60 * options.minutes:
            break
        if not done and not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            study.enqueue_trial(space.own)
        # A proposal follows from this seed and the finished trials alone, whoever proposed those.
        study.sampler = optuna.samplers.TPESampler(seed=derive(seed, "trial", len(done)))
        _try(study, space, judge)
    return study


def _try(study: "optuna.Study", space: SearchSpace, judge: Judge) -> None:
    """Try one proposal, rung by rung, until it is given up or the last student is scored."""
    from optuna.trial import TrialState

    trial = study.ask()
    values, scores = space.suggest(trial), []
    for rung in range(len(RUNGS)):
        score = judge(values, rung)
        scores.append(score)
        trial.set_user_attr("scores", [list(each) for each in scores])
        trial.report(score.accuracy, rung)
        if rung < len(RUNGS) - 1 and trial.should_prune():
            study.tell(trial, state=TrialState.PRUNED)
            return
    study.tell(trial, scores[-1].accuracy)


def best_values(study: "optuna.Study") -> Values:
    """Return the values of the best finished trial; of several the one of least loss, then the earliest."""
    from optuna.trial import TrialState

    finished = [trial for trial in _done(study) if trial.state == TrialState.COMPLETE]
    best = max(finished, key=lambda trial: Score(*trial.user_attrs["scores"][-1]).rank)
    return dict(best.params)


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
