"""What a worker trains the shadows of an audit with: one trainer for all teachers, one for the students of each pool and labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tckr.audit.shadow_config import ShadowConfig, StudentConfig
from tckr.audit.signals import STUDENT, WEIGHTS, model_scores_each
from tckr.classifiers.distillation import (
    hard_targets,
    stored_labels_of,
    student_spec,
    student_trainer,
)
from tckr.classifiers.models import Network
from tckr.classifiers.options import LabelSource
from tckr.classifiers.trainer import Trainer, TrainSpec
from tckr.engine.seeds import derive
from tckr.synthesizers.private_set import SyntheticSet

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
        self._alike: dict[StudentConfig, Network] = {}
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
        trainer, (spec,) = self.students(plan, [seed], [teacher], steps)
        return trainer, spec

    def students(
        self,
        plan: StudentConfig,
        seeds: Sequence[int],
        teachers: Sequence[nn.Module],
        steps: int | None = None,
    ) -> tuple[Trainer, list[TrainSpec]]:
        """Return the trainer and the specs of the students of several teachers, which label the images in one pass."""
        trainer, distillation = self._students[_key(plan)], self.config.distillation_of(plan)
        recipe = self.config.classifier
        soft: Sequence[Tensor | None] = [None for _ in teachers]
        if distillation.labels == "stored":
            soft = stored_labels_of(
                teachers, trainer.images, distillation, recipe.augmentation, recipe.soft_labels
            )
        return trainer, [
            student_spec(
                trainer.images,
                distillation,
                seed,
                steps=steps or self.config.steps,
                teacher=teacher,
                soft=labels,
                size=plan.size,
            )
            for seed, teacher, labels in zip(seeds, teachers, soft, strict=True)
        ]

    def alike(self, plan: StudentConfig) -> Network:
        """Return the one student of all shadows, where none of them has anything from its own teacher; it is trained once."""
        if plan not in self._alike:
            seed = ShadowModel(0, np.ones(0, dtype=bool)).seeds(self.config.seed)[1]
            trainer = self._students[_key(plan)]
            distillation = self.config.distillation_of(plan)
            spec = student_spec(
                trainer.images, distillation, seed, steps=self.config.steps, size=plan.size
            )
            self._alike[plan] = trainer.fit([spec], "student of all shadows")[0]
        return self._alike[plan]

    def scores(
        self, teachers: Sequence[nn.Module], students: Sequence[Mapping[StudentConfig, nn.Module]]
    ) -> list[Scores]:
        """Return what an attack sees of each shadow's teacher, of its students by name, and of the weights of `student`.

        Every model is asked in the same pass over the audited images, the one whose weights are held more often.
        """
        config = self.config
        weighed = config.students.get(STUDENT) if config.weights_queries else None
        most = max(config.queries, config.weights_queries)
        models: list[nn.Module] = [*teachers]
        queries = [config.queries for _ in teachers]
        for taught in students:
            models += taught.values()
            queries += [most if plan == weighed else config.queries for plan in taught]
        found = iter(
            model_scores_each(
                [model.to(config.device) for model in models],
                self.teachers.images,
                config.labels,
                queries,
                config.classifier.augmentation,
            )
        )
        scores: list[Scores] = [{TEACHER: next(found)} for _ in teachers]
        for own, taught in zip(scores, students, strict=True):
            of_plan = {plan: next(found) for plan in taught}
            own |= {n: of_plan[plan][:, : config.queries] for n, plan in config.students.items()}
            if weighed is not None:
                own[WEIGHTS] = of_plan[weighed]
        return scores


def _key(plan: StudentConfig) -> tuple[str, LabelSource, bool]:
    return plan.pool, plan.labels, plan.attacker
