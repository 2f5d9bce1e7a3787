"""Train the shadow models of an audit: teachers and students like the targets, on other halves of the audited images."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tckr.audit.membership import fingerprint
from tckr.audit.shadow_config import ShadowConfig, StudentConfig
from tckr.audit.shadow_trainers import Scores, ShadowModel, ShadowTrainers
from tckr.classifiers.models import Network
from tckr.classifiers.trainer import Trainer, TrainSpec
from tckr.engine import map_shards
from tckr.engine.checkpoint import Checkpoint, Checkpoints


class _Work:
    """What all shadows of an audit read. A worker process maps its images, and sets the trainers up when it starts."""

    def __init__(
        self,
        config: ShadowConfig,
        keep: Checkpoints | None = None,
        teachers: Checkpoints | None = None,
    ) -> None:
        self.config, self.keep, self.teachers = config, keep, teachers

    @cached_property
    def trainers(self) -> ShadowTrainers:
        return ShadowTrainers(self.config)

    def __reduce__(self) -> tuple[Any, ...]:
        self._sent = self.config.in_files()  # the files last as long as this does
        return _Work, (self._sent, self.keep, self.teachers)


def run_shadows(
    config: ShadowConfig,
    membership: NDArray[np.bool_],
    *,
    workers: int = 1,
    devices: Sequence[str] = (),
    folder: Path | None = None,
) -> Scores:
    """Train one shadow group for each row of `membership` and score all examples with it.

    Args:
        config: the examples and the recipe.
        membership: bool (S, N).
        workers: processes; 1 stays in this one, as a GPU needs.
        devices: GPUs, if more than one is to be used; see `map_shards`.
        folder: keeps finished groups, saved by whoever trained them, from which a killed audit resumes; whoever has
            saved the result removes it. It keeps the teachers too, for the audits of
            other arms.

    Returns:
        (S, N, Q) of the teachers, of every student by its name and, in scope `pipeline`, white-box
        signals (S, N, 1) of the generators, `generator.loss` and so on.

    Raises:
        UserError: see `ShadowConfig.check`.
    """
    config.check(membership)
    shadows = [ShadowModel(i, inside) for i, inside in enumerate(membership)]
    keep = teachers = None
    if folder is not None:
        keep = Checkpoints(folder / config.fingerprint())
        if config.own_teacher is None:
            teachers = Checkpoints(folder / config.teachers_fingerprint())
    found = {shadow.number: saved for shadow in shadows if keep and (saved := _load(keep, shadow))}
    missing = [shadow for shadow in shadows if shadow.number not in found]
    if found:
        logging.getLogger(__name__).info(
            "%s shadow groups are there already, from a run that was cut short.", len(found)
        )
    size = config.side_by_side(len(missing), max(workers, len(devices)))
    shards = [SideBySide(missing[i : i + size]) for i in range(0, len(missing), size)]
    done = map_shards(
        _finish,
        shards,
        workers,
        "shadow groups",
        shared=_Work(config, keep, teachers),
        devices=devices,
    )
    for shard, groups in zip(shards, done, strict=True):
        for i, shadow in enumerate(shard):
            found[shadow.number] = _as_arrays(groups[i]) if groups else _saved(keep, shadow)
    return {name: np.stack([found[shadow.number][name] for shadow in shadows]) for name in found[0]}


class SideBySide(tuple[ShadowModel, ...]):
    """Shadows that are trained side by side."""

    def __str__(self) -> str:
        return ", ".join(map(str, self))


def _finish(shadows: SideBySide, work: _Work) -> list[dict[str, Tensor]] | None:
    """Train some shadows and return their scores; where they are kept, save them instead."""
    groups = [
        {name: torch.from_numpy(values) for name, values in scores.items()}
        for scores in shadow_groups(shadows, work.trainers, work.teachers)
    ]
    if (keep := work.keep) is None:
        return groups
    for shadow, scores in zip(shadows, groups, strict=True):
        _checkpoint(keep, shadow).save(_of(shadow), scores)
    return None


def shadow_groups(
    shadows: Sequence[ShadowModel], trainers: ShadowTrainers, kept: Checkpoints | None = None
) -> list[Scores]:
    """Train shadow teachers on the shadows' examples, then shadow students taught by them; see `run_shadows`.

    The number of steps is the target's for all. Teachers that are `kept`, by the audit of another arm, are not trained again.
    """
    config, made, signals = trainers.config, None, [Scores() for _ in shadows]
    teachers = _train_teachers(shadows, trainers, kept)
    if config.resynthesis is not None:
        (shadow,) = shadows
        made = config.resynthesis.run(
            config.images,
            config.labels,
            shadow.inside,
            shadow.seeds(config.seed)[2],
            config.device,
            *teachers,
        )
        # An arm's own teacher was made with the sets, under one ledger.
        teachers = teachers or [made.teacher]
        for name, pool in made.sets.items():
            trainers.set_pool(name, pool)
        signals = [
            {
                f"generator.{name}": values[:, None].astype(np.float32)
                for name, values in made.signals.items()
            }
        ]
    students = _train_students(shadows, teachers, trainers)
    scores = trainers.scores(teachers, students)
    return [{**own, **further} for own, further in zip(scores, signals, strict=True)]


def _train_teachers(
    shadows: Sequence[ShadowModel], trainers: ShadowTrainers, kept: Checkpoints | None
) -> list[nn.Module]:
    """Train the teachers as the target's was: by the classifier's recipe, or in the arm's own way.

    In scope `pipeline` an arm's own teacher comes with its sets: none is trained here.
    """
    config = trainers.config
    if config.own_teacher is None:
        return _usual_teachers(shadows, trainers, kept)
    if config.resynthesis is not None:
        return []
    return [
        config.own_teacher.fit(
            config.images, config.labels, shadow.inside, shadow.seeds(config.seed)[0], config.device
        )
        for shadow in shadows
    ]


def _usual_teachers(
    shadows: Sequence[ShadowModel], trainers: ShadowTrainers, kept: Checkpoints | None
) -> list[nn.Module]:
    """Train by the classifier's recipe the teachers that are not kept, and keep them."""
    config = trainers.config
    found = [_kept_teacher(shadow, trainers, kept) for shadow in shadows]
    missing = [i for i, teacher in enumerate(found) if teacher is None]
    specs = [
        TrainSpec(
            shadows[i].seeds(config.seed)[0],
            config.steps_of(int(shadows[i].inside.sum())),
            torch.from_numpy(np.flatnonzero(shadows[i].inside)),
        )
        for i in missing
    ]
    trained = trainers.teachers.fit(specs, "shadow teachers", len(specs)) if specs else []
    for i, teacher in zip(missing, trained, strict=True):
        found[i] = teacher
        if kept is not None:
            _checkpoint(kept, shadows[i]).save(_of(shadows[i]), dict(teacher.state_dict()))
    return [teacher for teacher in found if teacher is not None]


def _kept_teacher(
    shadow: ShadowModel, trainers: ShadowTrainers, kept: Checkpoints | None
) -> nn.Module | None:
    state = None if kept is None else _checkpoint(kept, shadow).load(_of(shadow))
    if state is None:
        return None
    teacher = trainers.teachers.network(shadow.seeds(trainers.config.seed)[0])
    teacher.load_state_dict(state)
    return teacher


def _train_students(
    shadows: Sequence[ShadowModel], teachers: Sequence[nn.Module], trainers: ShadowTrainers
) -> list[dict[StudentConfig, Network]]:
    """Train the students of each shadow's teacher; those of one trainer side by side."""
    config = trainers.config
    wanted: dict[Trainer, list[tuple[int, StudentConfig, TrainSpec]]] = defaultdict(list)
    seeds = [shadow.seeds(config.seed)[1] for shadow in shadows]
    taught_by = [teacher.to(config.device) for teacher in teachers]
    alike = [plan for plan in config.plans if config.alike(plan)]
    students = [{plan: trainers.alike(plan) for plan in alike} for _ in shadows]
    for plan in config.plans:
        if plan in alike:
            continue
        trainer, specs = trainers.students(plan, seeds, taught_by)
        wanted[trainer] += [(i, plan, spec) for i, spec in enumerate(specs)]
    for trainer, those in wanted.items():
        networks = trainer.fit([spec for *_, spec in those], "shadow students", config.stack)
        for (i, plan, _), network in zip(those, networks, strict=True):
            students[i][plan] = network
    return students


def _of(shadow: ShadowModel) -> dict[str, Any]:
    return {"shadow": shadow.number, "members": fingerprint(shadow.inside[None])}


def _checkpoint(keep: Checkpoints, shadow: ShadowModel) -> Checkpoint:
    return keep.of(f"shadow_{shadow.number}_{fingerprint(shadow.inside[None])}")


def _load(keep: Checkpoints, shadow: ShadowModel) -> Scores | None:
    saved = _checkpoint(keep, shadow).load(_of(shadow))
    return None if saved is None else _as_arrays(saved)


def _saved(keep: Checkpoints | None, shadow: ShadowModel) -> Scores:
    """Return what a worker has just saved."""
    scores = None if keep is None else _load(keep, shadow)
    if scores is None:
        raise FileNotFoundError(f"the scores of shadow {shadow} are not in {keep}")
    return scores


def _as_arrays(scores: Mapping[str, Tensor]) -> Scores:
    return {name: values.numpy() for name, values in scores.items()}
