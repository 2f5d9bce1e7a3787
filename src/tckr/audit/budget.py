"""How long an audit will take on this machine, measured by a short probe, and how many shadows fit into a budget."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from tckr.audit.options import FEWEST_FOR_A_VARIANCE, FEWEST_TO_LEAVE_ONE_OUT, AuditOptions
from tckr.audit.results import Plan
from tckr.audit.shadow_config import ShadowConfig
from tckr.audit.shadow_models import ShadowTrainers
from tckr.classifiers.predict import logits
from tckr.classifiers.trainer import Trainer, TrainSpec
from tckr.errors import UserError
from tckr.synthesizers.private_set import SyntheticSet

FEWEST = 4  # shadows: two with and two without every example
SCORED = 1024  # images of the probe


def plan(config: ShadowConfig, options: AuditOptions, workers: int) -> Plan:
    """Probe the machine and decide the number of shadows.

    Args:
        config: of the audit.
        options: `n_shadows` and `time_budget_minutes`.
        workers: processes that will work side by side.

    Raises:
        UserError: the budget is too small for four shadows.
    """
    group = seconds_per_group(config, workers)
    wanted, budget = options.n_shadows, options.time_budget_minutes
    fewest = FEWEST_TO_LEAVE_ONE_OUT if options.attribution else FEWEST
    if options.variance == "per_example":
        fewest = FEWEST_FOR_A_VARIANCE
    if budget is not None:
        rounds = int(budget * 60 / group)
        wanted = min(wanted, rounds * workers // 2 * 2)
        if wanted < fewest:
            need = -(-fewest // workers) * group / 60
            raise UserError(
                f"privacy_audit.time_budget_minutes is {budget:g}, but {fewest} shadows take about {need:.1f} minutes"
                " here.",
                "give the audit more time, or fewer epochs.",
            )
    minutes = -(-wanted // workers) * group / 60
    return Plan(
        n_shadows=wanted,
        requested=options.n_shadows,
        seconds_per_group=group,
        minutes=minutes,
        workers=workers,
    )


def seconds_per_group(config: ShadowConfig, workers: int) -> float:
    """Estimate the seconds that one shadow group takes in one of `workers` processes: a few steps of each part, scaled."""
    with _threads(1 if workers > 1 and config.device == "cpu" else None):
        seconds = 0.0
        if config.resynthesis is not None:
            seconds = config.resynthesis.seconds(config.images, config.labels, config.device)
            blank = torch.zeros((1, *config.images.shape[1:]), dtype=torch.uint8)
            blank = blank.expand(config.resynthesis.count, -1, -1, -1)  # one image, seen as many
            labels = torch.zeros(config.resynthesis.count, dtype=torch.int64)
            made = {name: SyntheticSet(blank, labels) for name in config.resynthesis.closed}
            config = replace(config, pools={**config.pools, **made}, resynthesis=None)
        trainers = ShadowTrainers(config)
        per_step = {"hard": _per_step(lambda n: (trainers.teachers, TrainSpec(0, n)), config)}
        per_step["stored"] = per_step["hard"]
        teacher, teaching = _teacher(trainers, per_step["hard"])
        seconds += teaching
        taught = [plan for plan in config.students.values() if plan.labels == "on_the_fly"]
        if taught:
            per_step["on_the_fly"] = _per_step(
                lambda n: trainers.student(replace(taught[0], size=None), 0, teacher, n), config
            )
        students = set(config.students.values())  # each is trained once, whatever its names
        seconds += sum(
            config.distillation_of(plan).steps(config.steps) * per_step[plan.labels]
            for plan in students
        )
        logits(teacher, trainers.teachers.images[:SCORED])  # the first call sets up libraries
        start = time.perf_counter()
        logits(teacher, trainers.teachers.images[:SCORED])
        views = config.queries * (1 + len(students)) + max(
            0, config.weights_queries - config.queries
        )
        queried = len(config.images) * views
        return seconds + (time.perf_counter() - start) * queried / min(SCORED, len(config.images))


def _teacher(trainers: ShadowTrainers, per_step: float) -> tuple[nn.Module, float]:
    """Return a teacher to learn from in the probe, and the seconds that a whole one takes; an arm's own is made once."""
    config = trainers.config
    if config.own_teacher is None:
        (teacher,) = trainers.teachers.fit([TrainSpec(0, 1)])
        return teacher.to(config.device), config.steps * per_step
    start = time.perf_counter()
    half = np.arange(len(config.images)) % 2 == 0
    teacher = config.own_teacher.fit(config.images, config.labels, half, 0, config.device)
    return teacher.to(config.device), time.perf_counter() - start


def _per_step(training: Callable[[int], tuple[Trainer, TrainSpec]], config: ShadowConfig) -> float:
    """Measure the seconds of one optimizer step of one network, without what the first steps cost once."""
    few, many = (2, 8) if config.device == "cpu" else (8, 72)
    took = []
    for steps in (many, few, many):  # the first also warms up and records
        start = time.perf_counter()
        trainer, spec = training(steps)
        trainer.fit([spec] * config.stack, side_by_side=config.stack)
        took.append(time.perf_counter() - start)
    return max(took[2] - took[1], 1e-6) / (many - few) / config.stack


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
