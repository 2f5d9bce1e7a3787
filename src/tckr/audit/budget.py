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
from tckr.audit.shadow_trainers import ShadowTrainers
from tckr.classifiers.options import SCATTERING
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
    group = seconds_per_group(config, workers, options.n_shadows)
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


def seconds_per_group(config: ShadowConfig, workers: int, shadows: int) -> float:
    """Estimate the seconds that one of so many shadow groups takes in one of `workers` processes: a few steps of each part, scaled."""
    with _threads(1 if workers > 1 and config.device == "cpu" else None):
        seconds, together = 0.0, config.side_by_side(shadows, workers)
        groups = -(-shadows // max(1, workers))  # of a worker, which share a student that is alike
        if config.resynthesis is not None:
            groups = 1
            seconds = config.resynthesis.seconds(config.images, config.labels, config.device)
            blank = torch.zeros((1, *config.images.shape[1:]), dtype=torch.uint8)
            blank = blank.expand(config.resynthesis.count, -1, -1, -1)  # one image, seen as many
            labels = torch.zeros(config.resynthesis.count, dtype=torch.int64)
            made = {name: SyntheticSet(blank, labels) for name in config.resynthesis.closed}
            config = replace(config, pools={**config.pools, **made}, resynthesis=None)
        trainers = ShadowTrainers(config)
        if config.classifier.architecture == SCATTERING:
            return seconds + _with_heads(trainers, together)
        return seconds + _by_steps(trainers, groups)


def _with_heads(trainers: ShadowTrainers, together: int) -> float:
    """Estimate a group whose students are heads in closed form: one is fitted; those of shadows fitted together cost as much."""
    config, start = trainers.config, time.perf_counter()
    teacher = _own_teacher(config)
    if teacher is None:
        (teacher,) = trainers.teachers.fit([TrainSpec(0)])
        teacher.to(config.device)
    taught = time.perf_counter()
    if config.plans:
        trainer, spec = trainers.student(config.plans[0], 0, teacher)
        trainer.fit([spec])
    fitting = len(config.plans) * (time.perf_counter() - taught)
    return taught - start + (fitting + _scoring(trainers, teacher)) / together


def _by_steps(trainers: ShadowTrainers, groups: int) -> float:
    """Estimate one of a worker's groups of networks by a few steps of each kind; a student alike in all groups is trained once."""
    config = trainers.config
    per_step = {"hard": _per_step(lambda n: (trainers.teachers, TrainSpec(0, n)), config)}
    per_step["stored"] = per_step["hard"]
    start = time.perf_counter()
    teacher = _own_teacher(config)
    seconds = time.perf_counter() - start
    if teacher is None:
        (teacher,) = trainers.teachers.fit([TrainSpec(0, 1)])
        teacher.to(config.device)
        seconds = config.steps * per_step["hard"]
    taught = [plan for plan in config.plans if plan.labels == "on_the_fly"]
    if taught:
        per_step["on_the_fly"] = _per_step(
            lambda n: trainers.student(replace(taught[0], size=None), 0, teacher, n), config
        )
    seconds += sum(
        config.distillation_of(plan).steps(config.steps)
        * per_step[plan.labels]
        / (groups if config.alike(plan) else 1)
        for plan in config.plans
    )
    return seconds + _scoring(trainers, teacher)


def _scoring(trainers: ShadowTrainers, teacher: nn.Module) -> float:
    """Estimate how long a group is asked about all audited images."""
    config = trainers.config
    few = trainers.teachers.images[:SCORED]
    logits(teacher, few)  # the first call sets up libraries
    start = time.perf_counter()
    logits(teacher, few)
    models = 1 + len(config.plans)
    views = config.queries * models + max(0, config.weights_queries - config.queries)
    return (time.perf_counter() - start) * len(config.images) * views / len(few)


def _own_teacher(config: ShadowConfig) -> nn.Module | None:
    """Train an arm's own teacher, a whole one, on half of the images; None of an arm that has none of its own."""
    if config.own_teacher is None:
        return None
    half = np.arange(len(config.images)) % 2 == 0
    teacher: nn.Module = config.own_teacher.fit(
        config.images, config.labels, half, 0, config.device
    )
    return teacher.to(config.device)


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
