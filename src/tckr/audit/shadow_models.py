"""Train the shadow models of an audit: teachers and students like the targets, on other halves of the audited images."""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tckr.audit import attacker
from tckr.audit.membership import fingerprint
from tckr.audit.options import AttackerOptions
from tckr.audit.resynthesis import OwnTeacher, Resynthesis
from tckr.audit.signals import STUDENT, WEIGHTS, model_scores
from tckr.classifiers.distillation import hard_targets, student_spec, student_trainer
from tckr.classifiers.models import Network
from tckr.classifiers.options import ClassifierOptions, DistillationOptions, LabelSource
from tckr.classifiers.trainer import Trainer, TrainSpec
from tckr.engine import map_shards
from tckr.engine.checkpoint import Checkpoint, Checkpoints
from tckr.engine.rows import PART, Shared
from tckr.engine.seeds import derive
from tckr.errors import UserError
from tckr.synthesizers.private_set import SyntheticSet


@dataclass(frozen=True)
class StudentConfig:
    """What one student of a shadow group learns from.

    Attributes:
        pool: name of the synthetic images.
        labels: the teacher's (on_the_fly, stored) or those of the prompts (hard).
        size: how many of the images, the first ones; None: all.
        attacker: trained as by somebody who holds the set alone; see `tckr.audit.attacker`.
    """

    pool: str
    labels: LabelSource
    size: int | None = None
    attacker: bool = False


@dataclass(frozen=True)
class ShadowConfig:
    """What one shadow group repeats: the audited examples, the recipe, and what students learn from.

    Attributes:
        images: uint8 (N, C, H, W), members and holdout.
        labels: int64 (N,).
        n_classes: C.
        steps: optimizer steps of the target, `classifier.steps(number of members)`.
        members: of the target; a shadow's teacher takes as many steps for each of its own images. None: as many as a shadow's.
        classifier: recipe of teacher and students.
        distillation: of the students; each plan names its own labels.
        seed: of the run; the shadows' own seeds are derived from it.
        students: by name; the students of a group differ in what they learn from, not in their seed.
        pools: synthetic images that all shadows share, as released.
        resynthesis: makes further pools, again for each shadow (scope `pipeline`).
        own_teacher: trains the teachers of an arm that does not take the classifier's recipe for them.
        queries: views of every audited image with which a model is queried; see `signals.query_views`.
        weights_queries: views with which a student is queried whose weights the attacker holds; 0: it has no such row.
        attacker: how the attacker's own student is trained.
        views: of each synthetic image, whose labels are stored with a set.
        device: where shadows are trained.
        stack: networks that a GPU trains side by side.
    """

    images: Tensor
    labels: Tensor
    n_classes: int
    steps: int
    classifier: ClassifierOptions
    distillation: DistillationOptions
    seed: int
    students: Mapping[str, StudentConfig] = field(default_factory=dict)
    pools: Mapping[str, SyntheticSet] = field(default_factory=dict)
    resynthesis: Resynthesis | None = None
    own_teacher: OwnTeacher | None = None
    queries: int = 1
    weights_queries: int = 0
    views: int = 1
    members: int | None = None
    attacker: AttackerOptions = field(default_factory=AttackerOptions)
    device: str = "cpu"
    stack: int = 1

    def distillation_of(self, plan: StudentConfig) -> DistillationOptions:
        """Return the students' distillation with the labels of one of them, or the attacker's."""
        if plan.attacker:
            return attacker.distillation(plan.labels, self.views, self.attacker)
        return self.distillation.model_copy(update={"labels": plan.labels})

    def classifier_of(self, plan: StudentConfig) -> ClassifierOptions:
        """Return the students' recipe, or the attacker's."""
        if plan.attacker:
            return attacker.recipe(self.classifier, plan.labels, self.views, self.attacker)
        return self.classifier

    def steps_of(self, shadow_images: int) -> int:
        """Return the steps of a shadow's teacher, which sees each image as often as the target's teacher did.

        Shadows differ by some images by chance: within a twentieth the number is the target's own.
        """
        if self.members is None or abs(shadow_images - self.members) <= self.members / 20:
            return self.steps
        return max(1, round(self.steps * shadow_images / self.members))

    def fingerprint(self) -> str:
        """Return 32 hexadecimal digits that change with anything that changes a shadow's scores on this device."""
        digest = hashlib.sha256()
        tensors = [self.images, self.labels]
        for name in sorted(self.pools):
            digest.update(name.encode())
            tensors += [self.pools[name].images, self.pools[name].labels]
        for tensor in tensors:
            digest.update(str(tuple(tensor.shape)).encode())
            for part in tensor.split(PART):
                digest.update(part.contiguous().numpy().data)
        recipe = (self.n_classes, self.steps, self.classifier, self.distillation, self.seed)
        plans = sorted(self.students.items())
        asked = (self.queries, self.weights_queries, self.views, self.members, self.attacker)
        ways = (self.resynthesis, self.own_teacher, *asked, self.device)
        digest.update(repr((recipe, plans, *ways)).encode())
        return digest.hexdigest()[:32]

    def in_files(self) -> "ShadowConfig":
        """Return the same for other processes: its images travel as files that all of them map."""
        pools = {n: pool._replace(images=Shared(pool.images)) for n, pool in self.pools.items()}  # type: ignore[arg-type]
        return replace(self, images=Shared(self.images), pools=pools)  # type: ignore[arg-type]

    def check(self, membership: NDArray[np.bool_]) -> None:
        """Check that the matrix bool (S, N) is of these examples, before the hours are spent.

        Raises:
            UserError: the matrix is of other data, a class is absent in a shadow, or a student asks
                for images that are not there.
        """
        n = len(self.images)
        if membership.ndim != 2 or membership.shape[1] != n or len(self.labels) != n:
            raise UserError(
                f"The membership matrix {membership.shape} is not of these {n} examples.",
                "draw it again for this data.",
            )
        for name, plan in self.students.items():
            self._check_student(name, plan)
        labels = self.labels.numpy()
        present = np.unique(labels)
        for number, row in enumerate(membership):
            absent = np.setdiff1d(present, labels[row])
            if len(absent):
                raise UserError(
                    f"Shadow {number} would train without class {absent[0]}.",
                    "audit with more examples of it, or leave the class out.",
                )

    def _check_student(self, name: str, plan: StudentConfig) -> None:
        made = self.resynthesis.closed if self.resynthesis else {}
        if plan.pool in self.pools:
            available = len(self.pools[plan.pool].images)
        elif self.resynthesis is not None and plan.pool in made:
            available = self.resynthesis.count
        else:
            raise UserError(
                f"Student {name} reads {plan.pool}, which nobody makes.",
                f"choose of {', '.join([*self.pools, *made])}.",
            )
        if plan.size is not None and not 1 <= plan.size <= available:
            raise UserError(
                f"A student cannot read {plan.size} of {available} synthetic images.",
                "make more of them, or train on fewer.",
            )


# Keeps the seeds of shadows apart from any seed of a target.
SHADOW_STREAM = 0x7AD0
TEACHER = "teacher"

Scores: TypeAlias = dict[str, NDArray[np.float32]]
"""By name of the model: (N, Q) of one shadow, (S, N, Q) of all."""


@dataclass(frozen=True)
class ShadowModel:
    """One shadow: its number and the examples (N,) it trains on."""

    number: int
    inside: NDArray[np.bool_]

    def __str__(self) -> str:
        return str(self.number)

    def seeds(self, seed: int) -> tuple[int, int, int]:
        """Return the seeds of its teacher, its students and its pools."""
        drawn = np.random.SeedSequence([seed, SHADOW_STREAM, self.number]).generate_state(2)
        return int(drawn[0]), int(drawn[1]), derive(seed, "shadow", self.number)


class ShadowTrainers:
    """The trainers that all shadows share: one for the teachers, one for the students of each pool and labels, and those of
    the attacker.

    They are the classes that train the targets. Of each set of images there is one copy, that of its first trainer: on
    the device where it fits there.
    """

    def __init__(self, config: ShadowConfig) -> None:
        self.config = config
        if config.device != "cpu":
            # A worker starts with torch's own settings, under which equal shadows come out unequal.
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        self.teachers = Trainer(
            config.images,
            config.classifier,
            config.n_classes,
            targets=config.labels,
            device=config.device,
        )
        self._students: dict[tuple[str, LabelSource, bool], Trainer] = {}
        for name, pool in config.pools.items():
            self.set_pool(name, pool)

    def set_pool(self, name: str, pool: SyntheticSet) -> None:
        """Let students read a pool of synthetic images, in the place of the one of that name."""
        config, images = self.config, pool.images
        plans = {_key(plan): plan for plan in config.students.values() if plan.pool == name}
        for key, plan in plans.items():
            distillation = config.distillation_of(plan)
            if key in self._students:
                targets = hard_targets(pool.labels, distillation)
                self._students[key].replace(images, targets)
            else:
                self._students[key] = student_trainer(
                    images,
                    pool.labels,
                    config.classifier_of(plan),
                    config.n_classes,
                    distillation=distillation,
                    device=config.device,
                )
            images = self._students[key].images

    def student(
        self, plan: StudentConfig, seed: int, teacher: nn.Module, steps: int | None = None
    ) -> tuple[Trainer, TrainSpec]:
        """Return the trainer and the spec of one student; `steps` of its teacher, by default the target's."""
        trainer = self._students[_key(plan)]
        spec = student_spec(
            trainer.images,
            self.config.distillation_of(plan),
            seed,
            steps=steps or self.config.steps,
            teacher=teacher,
            size=plan.size,
            augmentation=self.config.classifier.augmentation,
            told=self.config.classifier.soft_labels,
        )
        return trainer, spec

    def scores(self, model: nn.Module, queries: int | None = None) -> NDArray[np.float32]:
        """Return what an attack sees of a model, (N, Q); by default with the configuration's number of queries."""
        config = self.config
        return model_scores(
            model.to(config.device),
            self.teachers.images,
            config.labels,
            queries or config.queries,
            config.classifier.augmentation,
        )

    def scores_of_students(
        self, students: Mapping[StudentConfig, nn.Module]
    ) -> dict[str, NDArray[np.float32]]:
        """Return what an attack sees of every student by name, and of the weights of `student` (`signals.WEIGHTS`)."""
        config, found = self.config, {}
        weighed = config.students.get(STUDENT) if config.weights_queries else None
        for plan, model in students.items():
            most = max(config.queries, config.weights_queries) if plan == weighed else None
            found[plan] = self.scores(model, most)
        scores = {name: found[plan][:, : config.queries] for name, plan in config.students.items()}
        return scores if weighed is None else {**scores, WEIGHTS: found[weighed]}


def _key(plan: StudentConfig) -> tuple[str, LabelSource, bool]:
    return plan.pool, plan.labels, plan.attacker


class _Work:
    """What all shadows of an audit read. A worker process maps its images, and sets the trainers up when it starts."""

    def __init__(self, config: ShadowConfig, keep: Checkpoints | None) -> None:
        self.config, self.keep = config, keep

    @cached_property
    def trainers(self) -> ShadowTrainers:
        return ShadowTrainers(self.config)

    def __reduce__(self) -> tuple[Any, ...]:
        self._sent = self.config.in_files()  # the files last as long as this does
        return _Work, (self._sent, self.keep)


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
            saved the result removes it.

    Returns:
        (S, N, Q) of the teachers, of every student by its name and, in scope `pipeline`, white-box
        signals (S, N, 1) of the generators, `generator.loss` and so on.

    Raises:
        UserError: see `ShadowConfig.check`.
    """
    config.check(membership)
    shadows = [ShadowModel(i, inside) for i, inside in enumerate(membership)]
    keep = None
    if folder is not None:
        keep = Checkpoints(folder / config.fingerprint())
    found = {shadow.number: saved for shadow in shadows if keep and (saved := _load(keep, shadow))}
    missing = [shadow for shadow in shadows if shadow.number not in found]
    if found:
        logging.getLogger(__name__).info(
            "%s shadow groups are there already, from a run that was cut short.", len(found)
        )
    # In scope `pipeline` a pool belongs to one shadow, so that shadows cannot share a device's images.
    size = config.stack if config.resynthesis is None else 1
    shards = [SideBySide(missing[i : i + size]) for i in range(0, len(missing), size)]
    done = map_shards(
        _finish,
        shards,
        workers,
        "shadow groups",
        shared=_Work(config, keep),
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
        for scores in shadow_groups(shadows, work.trainers)
    ]
    if (keep := work.keep) is None:
        return groups
    for shadow, scores in zip(shadows, groups, strict=True):
        _checkpoint(keep, shadow).save(_of(shadow), scores)
    return None


def shadow_groups(shadows: Sequence[ShadowModel], trainers: ShadowTrainers) -> list[Scores]:
    """Train shadow teachers on the shadows' examples, then shadow students taught by them; see `run_shadows`.

    The number of steps is the target's for all.
    """
    config = trainers.config
    made, signals, teachers = None, [Scores() for _ in shadows], _train_teachers(shadows, trainers)
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
    groups = []
    for i, teacher in enumerate(teachers):
        taught = trainers.scores_of_students(students[i])
        groups.append({TEACHER: trainers.scores(teacher), **taught, **signals[i]})
    return groups


def _train_teachers(shadows: Sequence[ShadowModel], trainers: ShadowTrainers) -> list[nn.Module]:
    """Train the teachers as the target's was: by the classifier's recipe, or in the arm's own way.

    In scope `pipeline` an arm's own teacher comes with its sets: none is trained here.
    """
    config = trainers.config
    if config.own_teacher is None:
        specs = [
            TrainSpec(
                shadow.seeds(config.seed)[0],
                config.steps_of(int(shadow.inside.sum())),
                torch.from_numpy(np.flatnonzero(shadow.inside)),
            )
            for shadow in shadows
        ]
        return list(trainers.teachers.fit(specs, "shadow teachers", side_by_side=len(shadows)))
    if config.resynthesis is not None:
        return []
    return [
        config.own_teacher.fit(
            config.images, config.labels, shadow.inside, shadow.seeds(config.seed)[0], config.device
        )
        for shadow in shadows
    ]


def _train_students(
    shadows: Sequence[ShadowModel], teachers: Sequence[nn.Module], trainers: ShadowTrainers
) -> list[dict[StudentConfig, Network]]:
    """Train the students of each shadow's teacher; those of one trainer side by side."""
    config = trainers.config
    wanted: dict[Trainer, list[tuple[int, StudentConfig, TrainSpec]]] = defaultdict(list)
    for i, (shadow, teacher) in enumerate(zip(shadows, teachers, strict=True)):
        teacher.to(config.device)
        # Two names may stand for the same student: it is trained once.
        for plan in dict.fromkeys(config.students.values()):
            trainer, spec = trainers.student(plan, shadow.seeds(config.seed)[1], teacher)
            wanted[trainer].append((i, plan, spec))
    students: list[dict[StudentConfig, Network]] = [{} for _ in shadows]
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
