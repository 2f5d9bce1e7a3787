"""Honest mechanisms stay below what is proven and come near it; planted bugs are found in every kind of mechanism."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

import tckr.audit.canaries as canaries
import tckr.classifiers.private_teacher as private_teacher
import tckr.dp.voting as voting
import tckr.training.private as private
from tckr.audit.canaries import gradient_canaries, head_canaries, histogram_canaries, vote_canaries
from tckr.audit.tight import Scores, tightness
from tckr.classifiers.private_options import PrivateTeacherOptions
from tckr.classifiers.private_teacher import teacher_plan
from tckr.dp import Entry, Ledger, Noise, Plan, votes_plan
from tckr.options import PrivateSchedule
from tckr.training.private import private_plan

N = 3000
REPETITIONS = 4000
SIZE = 3970
TEACHER = PrivateTeacherOptions(steps=30)
SCHEDULE = PrivateSchedule(steps=20, sampling_rate=0.1, learning_rate=1e-3, max_grad_norm=1e-3)
QUERY = Plan(
    name="query", mechanism="discrete_gaussian", sensitivity=2**0.5, share=1, why="two cells", code="test"
)  # fmt: skip
PLANS = {
    "query": QUERY,
    "votes": votes_plan(3, 1),
    "teacher": teacher_plan(TEACHER, 1),
    "adaptation": private_plan(SCHEDULE, 1, "adaptation", private.private_minimize),
}


@cache
def charged(name: str) -> Entry:
    (entry,) = Ledger(10, 1e-4, N, data_hash="test").plan([PLANS[name]])
    return entry


def planted(entry: Entry, noise: Noise) -> Scores:
    run: dict[str, Callable[[], Scores]] = {
        "query": lambda: histogram_canaries(entry, noise, REPETITIONS),
        "votes": lambda: vote_canaries(entry, noise, REPETITIONS),
        "teacher": lambda: head_canaries(TEACHER, entry, noise, REPETITIONS, N, SIZE)[0],
        "adaptation": lambda: gradient_canaries(SCHEDULE, entry, noise, REPETITIONS, N),
    }
    return run[entry.name]()


class Quiet(Noise):
    """A bug: half of the noise."""

    def normal(self, shape: Any, scale: float, device: Any = "cpu", dtype: Any = None) -> Any:
        return super().normal(shape, scale / 2, device, dtype)

    def discrete_gaussian(self, shape: Any, sigma: float) -> Any:
        return super().discrete_gaussian(shape, sigma / 2)


class Whole(Noise):
    """A bug: every image enters every step."""

    def poisson_sample(self, n: int, rate: float) -> Any:
        return np.ones(n, bool)


@pytest.mark.parametrize("name", PLANS)
def test_honest_mechanisms_stay_below_and_come_near(name: str) -> None:
    entry = charged(name)
    found = [tightness([entry], planted(entry, Noise(seed=seed))) for seed in range(3)]
    assert not any(each.contradicts for each in found)
    assert np.mean([each.measured.value / each.proven for each in found]) > 0.75


def test_noise_of_the_operating_system_is_audited_too() -> None:
    entry = charged("teacher")
    assert not tightness([entry], planted(entry, Noise()), confidence=0.99999).contradicts


@pytest.mark.parametrize("name", PLANS)
def test_half_of_the_noise_contradicts(name: str) -> None:
    entry = charged(name)
    found = tightness([entry], planted(entry, Quiet(seed=0)))
    assert found.contradicts
    assert found.measured.value > found.proven


@pytest.mark.parametrize("name", PLANS)
def test_twice_the_sensitivity_contradicts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image counts twice, or is clipped to twice the norm that was charged."""
    ballots, histogram = voting.ballots, canaries.noisy_histogram
    head, summed = private_teacher.clipped_gradient_sum, private.clipped_sum
    monkeypatch.setattr(voting, "ballots", lambda *given: np.repeat(ballots(*given), 2, 0))
    monkeypatch.setattr(
        canaries, "noisy_histogram", lambda cells, *given: histogram(np.repeat(cells, 2, 0), *given)
    )
    monkeypatch.setattr(
        private_teacher, "clipped_gradient_sum", lambda *given: head(*given[:-1], 2 * given[-1])
    )
    monkeypatch.setattr(private, "clipped_sum", lambda rows, norm: summed(rows, 2 * norm))
    entry = charged(name)
    assert tightness([entry], planted(entry, Noise(seed=0))).contradicts


def test_a_sample_that_is_charged_and_not_drawn_contradicts() -> None:
    entry = charged("adaptation")
    assert tightness([entry], planted(entry, Whole(seed=0))).contradicts


def test_all_that_one_canary_shows_is_below_the_total() -> None:
    ledger = Ledger(10, 1e-4, N, data_hash="test")
    entries = ledger.plan([PLANS["query"], PLANS["teacher"]])
    each = [planted(entry, Noise(seed=place)) for place, entry in enumerate(entries)]
    found = tightness(entries, each[0] + each[1])
    assert not found.contradicts
    assert found.measured.value > max(tightness([e], s).proven for e, s in zip(entries, each, strict=True))  # fmt: skip


def test_labels_show_less_than_gradients() -> None:
    entry = charged("teacher")
    gradients, labels = head_canaries(TEACHER, entry, Noise(seed=0), 20_000, N, SIZE)
    assert 0.5 < _mu(labels) < _mu(gradients)


def test_every_step_clips_a_canary_of_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes it the worst one: its gradient is as long as charged, whatever the teacher has learnt of it."""
    lengths: list[Any] = []
    plain = private_teacher.clipped_gradient_sum

    def watched(*given: Any) -> torch.Tensor:
        total = plain(*given)
        lengths.append(total.norm(dim=0).sort().values[200:].numpy())  # of the half that is present
        return total

    monkeypatch.setattr(private_teacher, "clipped_gradient_sum", watched)
    head_canaries(TEACHER, charged("teacher"), Noise(seed=0), REPETITIONS, N, SIZE)
    assert len(lengths) == 10 * TEACHER.steps
    assert np.allclose(lengths, TEACHER.max_grad_norm, rtol=1e-6)


def _mu(scores: Scores) -> float:
    return tightness([charged("teacher")], scores).measured.value
