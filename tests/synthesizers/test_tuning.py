"""The search: it finds what is there, gives up what is poor, and a killed one ends with the same choice."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from pydantic import ValidationError

from tckr.synthesizers.choice import TuningOptions
from tckr.synthesizers.students import Score
from tckr.synthesizers.tuning import RUNGS, SearchSpace, Values, chosen_trial, say_values, search

OWN = {"guidance_scale": 1.0, "initial_noise_scale": 1.0, "steps": 6, "filter_threshold": None}
WIDE = TuningOptions(
    trials=14,
    guidance_scale=(1.0, 3.0),
    steps=(4, 6, 10),
    initial_noise_scale=(1.0, 2.0),
    filter_threshold=(0.0, 0.9),
    prune_after=3,
)


def landscape(values: Values, rung: int) -> Score:
    """Best at guidance 2, scale 1.3, 10 steps, with a filter at 0.3; more images help everybody."""
    far = abs(values["guidance_scale"] - 2) + abs(values["initial_noise_scale"] - 1.3)
    far += 0.2 * (values["steps"] != 10) + (
        abs(values["filter_threshold"] - 0.3) if values["filter"] else 0.5
    )
    return Score(80 - 10 * far + rung, far, 10 * (rung + 1), 1.0)


def table(study: Any) -> list[Any]:
    kept = [t for t in study.get_trials() if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    return [(t.params, t.state, t.value, t.user_attrs) for t in kept]


def best_values(study: Any) -> Values:
    return dict(table(study)[chosen_trial(study, 500)][0])


def run(
    judge: Callable[[Values, int], Score] = landscape,
    folder: Path | None = None,
    options: TuningOptions = WIDE,
) -> Any:
    return search(SearchSpace(options, OWN), judge, options, seed=5, folder=folder)


def test_it_begins_with_the_arms_own_sampling_and_ends_no_worse() -> None:
    study = run()
    rows = table(study)
    assert rows[0][0] == {"guidance_scale": 1.0, "initial_noise_scale": 1.0, "steps": 6, "filter": False}  # fmt: skip
    assert len(rows) == WIDE.trials
    own, best = landscape(rows[0][0], 2), landscape(best_values(study), 2)
    assert best.accuracy > own.accuracy + 3


def test_own_sampling_stays_unless_the_best_is_above_it_by_a_standard_error() -> None:
    def level(best: float) -> Any:
        return run(lambda values, rung: Score(best if values["steps"] == 10 else 80.0, 1, 1, 1.0))

    # sqrt(0.82 x 0.18 / 500) is 1.72 points, sqrt(0.82 x 0.18 / 5000) is 0.54.
    study = level(81.5)
    assert chosen_trial(study, 500, 1.0) == 0
    assert chosen_trial(study, 5000, 1.0) == chosen_trial(study, 500, 0.0) > 0
    assert chosen_trial(study, 5000, 3.0) == 0
    assert chosen_trial(level(82.0), 500, 1.0) > 0
    assert chosen_trial(level(80.0), 500, 1.0) == 0


def test_poor_trials_are_given_up_early() -> None:
    rows = table(run())
    states = [state for _, state, *_ in rows]
    assert states[: WIDE.prune_after] == [TrialState.COMPLETE] * WIDE.prune_after
    assert TrialState.PRUNED in states
    for _, state, _, attributes in rows:
        students = len(attributes["scores"])
        assert students == len(RUNGS) if state == TrialState.COMPLETE else students < len(RUNGS)


@pytest.mark.parametrize("killed_at", [0, 1, 3, 8, 17])
def test_a_killed_search_goes_on_where_it_stood_and_ends_with_the_same_choice(
    tmp_path: Path, killed_at: int
) -> None:
    whole = run(folder=tmp_path / "whole")
    calls: list[Any] = []

    def deadly(values: Values, rung: int) -> Score:
        if len(calls) == killed_at:
            raise KeyboardInterrupt
        calls.append((sorted(values.items()), rung))
        return landscape(values, rung)

    with pytest.raises(KeyboardInterrupt):
        run(deadly, tmp_path / "killed")
    before = len(table(search_again := run(folder=tmp_path / "killed")))
    assert table(search_again) == table(whole)
    assert best_values(search_again) == best_values(whole)
    # A third call finds everything done.
    assert before == len(table(run(deadly_if_asked, tmp_path / "killed")))


def deadly_if_asked(values: Values, rung: int) -> Score:
    raise AssertionError("nothing was left to try")


@pytest.mark.parametrize("killed_at", [2, 10, 17])
def test_trials_of_a_batch_know_the_same_and_a_kill_changes_none_of_them(
    tmp_path: Path, killed_at: int
) -> None:
    batches = WIDE.model_copy(update={"at_once": 4})
    whole = table(run(options=batches))
    assert len(whole) == WIDE.trials
    alone = table(run())
    assert whole[0] == alone[0]
    assert whole[5:] != alone[5:]  # they know less
    # Trial n is the same, however much of its batch is there already.
    for cut in (1, 6, 9):
        study = run(folder=tmp_path / f"{cut}", options=batches.model_copy(update={"trials": cut}))
        assert table(study) == whole[:cut]
        assert table(run(folder=tmp_path / f"{cut}", options=batches)) == whole
    calls: list[Any] = []

    def deadly(values: Values, rung: int) -> Score:
        calls.append(values)
        if len(calls) > killed_at:
            raise KeyboardInterrupt
        return landscape(values, rung)

    with pytest.raises(KeyboardInterrupt):
        run(deadly, tmp_path / "killed", batches)
    assert table(run(folder=tmp_path / "killed", options=batches)) == whole


def test_a_worker_says_nothing_of_its_studies(capfd: pytest.CaptureFixture[str]) -> None:
    options = WIDE.model_copy(update={"trials": 2, "at_once": 2})
    search(SearchSpace(options, OWN), landscape, options, seed=5, workers=2)
    assert "study" not in capfd.readouterr().err


def test_in_memory_and_in_a_file_are_one_search(tmp_path: Path) -> None:
    assert table(run()) == table(run(folder=tmp_path))


def test_a_budget_in_minutes_ends_it_those_before_a_kill_included(tmp_path: Path) -> None:
    brief = WIDE.model_copy(update={"minutes": 0.1})  # of judgements of a second each
    rows = table(run(folder=tmp_path, options=brief))
    assert len(rows) == 2  # two trials of three students take six seconds
    assert table(run(deadly_if_asked, tmp_path, brief)) == rows


def test_with_nothing_to_search_the_own_sampling_is_scored_once() -> None:
    fixed = TuningOptions(trials=5, guidance_scale=(1.0, 1.0), initial_noise_scale=(1.0, 1.0))
    study = run(lambda values, rung: Score(50.0, 1.0, 1, 1.0), options=fixed)
    assert best_values(study) == {}
    assert len(table(study)) == 1


def test_values_in_words() -> None:
    assert say_values({"filter": True, "filter_threshold": 0.25}) == "filter_threshold 0.25"


@pytest.mark.parametrize(
    "wrong",
    [{"guidance_scale": (2.0, 1.0)}, {"initial_noise_scale": (0.0, 1.0)}, {"filter_threshold": (0.5, 1.0)}],
)  # fmt: skip
def test_a_range_that_is_none_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="from"):
        TuningOptions(**wrong)
