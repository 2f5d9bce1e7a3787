"""The rows of `benchmarks.knob`, and one seed of it: teacher, images and shadows' teachers, which all rows share."""

import argparse
import time
from collections.abc import Mapping
from contextlib import chdir
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from benchmarks.kr_shared import FASHION_MNIST
from benchmarks.measure import now
from benchmarks.private_audit import private_arm
from benchmarks.private_teacher import ROOT, labelled, score
from numpy.typing import NDArray

from benchmarks import private_audit
from tckr.audit import attacker
from tckr.audit.audit import audit
from tckr.audit.membership import membership_matrix
from tckr.audit.options import AttackerOptions, AuditOptions, ReleaseThreat, Scope
from tckr.audit.resynthesis import OwnTeacher
from tckr.audit.shadow_config import ShadowConfig, StudentConfig
from tckr.audit.shadow_models import run_shadows
from tckr.audit.shadow_trainers import ShadowModel
from tckr.audit.signals import model_scores
from tckr.audit.things import ModelAudit
from tckr.classifiers.distillation import train_student, train_teacher
from tckr.classifiers.options import (
    ClassifierOptions,
    DistillationOptions,
    LabelSource,
    SoftLabelOptions,
)
from tckr.classifiers.trainer import Trainer, TrainSpec
from tckr.diffusion.options import AdaptationOptions, SamplingOptions
from tckr.engine.device import best
from tckr.engine.seeds import derive
from tckr.images.ingest import ingest
from tckr.images.options import IngestionOptions
from tckr.images.tables import of_split
from tckr.options import Schedule
from tckr.synthesizers.tckr import TCKR, TckrRecyclingOptions
from tckr.text.options import CaptionOptions

MODELS = ROOT / "data/06_models/foundation"
SAMPLE = ROOT / "data/01_raw/fashion_mnist"
SPLIT_SEED = 0  # one split for all seeds
EPSILON = 10.0  # of the private teacher
PLAIN = SoftLabelOptions()


@dataclass(frozen=True)
class Row:
    """What a student learns from, and what is stored with the images."""

    labels: LabelSource = "on_the_fly"
    views: int = 1
    told: SoftLabelOptions = PLAIN
    private: bool = False

    @property
    def released(self) -> tuple[int, SoftLabelOptions, bool]:
        """What the released set depends on: rows may share it."""
        return self.views, self.told, self.private


DEFAULT = "on the fly"
ROWS = {
    DEFAULT: Row(),
    "stored, 1 view": Row("stored"),
    "stored, 8 views": Row("stored", views=8),
    "T = 0.5": Row(told=SoftLabelOptions(temperature=0.5)),
    "T = 2": Row(told=SoftLabelOptions(temperature=2)),
    "T = 4": Row(told=SoftLabelOptions(temperature=4)),
    "top 1": Row(told=SoftLabelOptions(top_k=1)),
    "top 3": Row(told=SoftLabelOptions(top_k=3)),
    "at most 0.9": Row(told=SoftLabelOptions(confidence=0.9)),
    "at most 0.7": Row(told=SoftLabelOptions(confidence=0.7)),
    "hard, the prompts'": Row("hard"),
    "private teacher, epsilon 10": Row(private=True),
}


class Images(private_audit.Images):
    """Members, holdout, validation and test images."""

    def __init__(self, given: argparse.Namespace) -> None:
        sizes: dict[str, Any] = {}
        if given.small:
            sizes = {"members": 120, "holdout": 120, "validation": 40, "test": 100}
        elif given.images:
            sizes = {"validation": 5000}
            if given.images.is_dir() and [*given.images.glob("*idx1-ubyte*")]:
                sizes["class_names"] = FASHION_MNIST
        with chdir(ROOT):
            options = IngestionOptions(size=28, **sizes)
            table, _ = ingest(given.images or SAMPLE, options, SPLIT_SEED)
        self.take(table)
        self.validation = labelled(of_split(table, "validation"), self.names)


@dataclass(frozen=True, repr=False)
class Remembered(OwnTeacher):
    """The teachers of all shadows, trained once for every row.

    Attributes:
        taught: by the seed of the teacher.
    """

    taught: Mapping[int, Any] = field(default_factory=dict)

    def fit(
        self,
        images: torch.Tensor,
        labels: torch.Tensor,
        inside: NDArray[np.bool_],
        seed: int,
        device: str,
    ) -> Any:
        """Return the teacher of a shadow."""
        return self.taught[seed]


class Study:
    """One seed: a teacher, a set of images and the shadows' teachers, which all rows share."""

    def __init__(self, given: argparse.Namespace, seed: int, started: float) -> None:
        self.given, self.seed, self.started, self.device = given, seed, started, best()
        self.images, self.recipe = Images(given), classifier(given)
        members = self.images.members
        self.steps = self.recipe.steps(len(members.labels))
        self.teacher = train_teacher(
            members.images, members.labels, self.recipe, derive(seed, "teacher"), len(self.images.names),
            device=self.device,
        ).to(self.device)  # fmt: skip
        arm = generator(given)
        fitted = arm.fit(members, seed, self.device)
        self.drawn = fitted.sample(len(members.labels), seed)
        self.membership = membership_matrix(
            len(self.images.labels), given.shadows, 0.5, derive(seed, "membership")
        )
        self.config = ShadowConfig(
            self.images.pixels, self.images.labels, len(self.images.names), self.steps, self.recipe, DistillationOptions(),
            derive(seed, "shadows"), pools={"released": self.drawn}, members=len(members.labels),
            device=self.device, stack=given.stack,
        )  # fmt: skip
        self.remembered = Remembered(arm, self.images.names, taught=self._shadow_teachers())
        self.released: dict[Any, dict[str, Any]] = {}
        self.durations: list[float] = []

    def _shadow_teachers(self) -> dict[int, Any]:
        config = self.config
        specs = [
            TrainSpec(
                shadow.seeds(config.seed)[0],
                config.steps_of(int(shadow.inside.sum())),
                torch.from_numpy(np.flatnonzero(shadow.inside)),
            )
            for shadow in self._shadows()
        ]
        trainer = Trainer(
            config.images, self.recipe, config.n_classes, targets=config.labels, device=self.device
        )
        made = trainer.fit(specs, "shadow teachers", self.given.stack)
        return {spec.seed: network for spec, network in zip(specs, made, strict=True)}

    def _shadows(self) -> list[ShadowModel]:
        return [ShadowModel(i, inside) for i, inside in enumerate(self.membership)]

    @cached_property
    def private(self) -> tuple[Any, Remembered]:
        """The teacher under differential privacy, and those of the shadows, each under a ledger of its own."""
        arm = private_arm(EPSILON, self.given.small)
        own = OwnTeacher(arm, self.images.names)
        config = self.config
        taught = {
            seed: own.fit(config.images, config.labels, shadow.inside, seed, self.device)
            for shadow in self._shadows()
            for seed in [shadow.seeds(config.seed)[0]]
        }
        members = self.images.members
        teacher = arm.fit_teacher(members, derive(self.seed, "teacher"), self.device)
        return teacher.to(self.device), Remembered(arm, self.images.names, taught=taught)

    def fits(self) -> bool:
        """Whether another row like the longest of this call will be done in time."""
        left = 60 * self.given.minutes - (time.monotonic() - self.started)
        return self.given.small or left > 1.2 * max(self.durations, default=0.0)

    def teacher_row(self) -> dict[str, Any]:
        """Return the figures of the teacher, which is not handed out."""
        clock = now()
        shadows = run_shadows(replace(self.config, own_teacher=self.remembered), self.membership)
        return self._line("teacher", clock, self.teacher, shadows["teacher"], None, {})

    def row(self, name: str) -> dict[str, Any]:
        """Train and attack the student of a row, and the attacker's."""
        clock, row = now(), ROWS[name]
        teacher, remembered = self.private if row.private else (self.teacher, self.remembered)
        recipe = self.recipe.model_copy(update={"soft_labels": row.told})
        distillation = DistillationOptions(
            labels=row.labels, views=row.views, patience=self.given.patience
        )
        plans = {"student": StudentConfig("released", row.labels)}
        attacked = row.labels != "hard" and row.released not in self.released
        if attacked:
            plans[attacker.RELEASED] = StudentConfig("released", "stored", attacker=True)
        shadows = run_shadows(
            replace(
                self.config, classifier=recipe, distillation=distillation, students=plans, views=row.views,
                own_teacher=remembered,
            ),
            self.membership,
        )  # fmt: skip
        taught = {"steps": self.steps, "teacher": teacher, "device": self.device}
        names = len(self.images.names)
        student = train_student(
            *self.drawn, recipe, derive(self.seed, "student"), names, distillation=distillation, **taught
        )  # fmt: skip
        if attacked:
            options = AttackerOptions()
            own = train_student(
                *self.drawn, attacker.recipe(recipe, "stored", row.views, options), derive(self.seed, "attacker"), names,
                distillation=attacker.distillation("stored", row.views, options), **taught,
            )  # fmt: skip
            found = self._attack(own, shadows[attacker.RELEASED], None, "stored")
            self.released[row.released] = _leak(found, "released")
        released = {} if row.labels == "hard" else self.released[row.released]
        return self._line(name, clock, student, shadows["student"], row.labels, released)

    def _attack(
        self,
        model: Any,
        shadows: NDArray[np.float32],
        accuracy: float | None,
        labels: LabelSource | None,
    ) -> ModelAudit:
        images = self.images
        scope: Scope = "classifier" if labels is None else "distillation"
        scores = model_scores(
            model.to(self.device), images.pixels, images.labels, 1, self.recipe.augmentation
        )
        options = AuditOptions(
            n_shadows=self.given.shadows, attack="rmia", release=ReleaseThreat(encoder="none")
        )
        return audit(
            scores, shadows, self.membership, images.is_member, accuracy_percent=accuracy, options=options, scope=scope,
            labels=labels,
        )  # fmt: skip

    def _line(
        self,
        name: str,
        clock: float,
        model: Any,
        shadows: NDArray[np.float32],
        labels: LabelSource | None,
        released: Mapping[str, Any],
    ) -> dict[str, Any]:
        accuracy, validation = (
            score(model, split)[0] for split in (self.images.test, self.images.validation)
        )
        found = self._attack(model, shadows, accuracy, labels)
        seconds = now() - clock
        self.durations.append(seconds)
        return {
            "row": name, "seed": self.seed, "accuracy": accuracy, "validation": validation,
            "AOP": found.in_percent()["AOP"], **_leak(found, "student"), **released, "seconds": seconds,
        }  # fmt: skip


def _leak(found: ModelAudit, name: str) -> dict[str, Any]:
    """Return the figures of an attack, in percent; all None where the design fixes them."""
    figures = found.in_percent()
    worst = [group for group in found.groups if group.name == "1 % most exposed"]
    return {
        **{f"AUC_{name}{end}": figures[f"AUC_MIA{end}"] for end in ("", "_low", "_high")},
        f"TPR_{name}": figures["TPR_at_1pct_FPR"],
        f"worst_{name}": 100 * worst[0].auc.value if worst else None,
        f"recipe_{name}": None if found.recipe is None else 100 * found.recipe.attack.auc.value,
    }


def classifier(given: argparse.Namespace) -> ClassifierOptions:
    """Return the recipe of teacher and students: that of `conf/base`, or of `conf/gpu` for a larger set."""
    if given.small:
        return ClassifierOptions(widths=(8,), epochs=1, batch_size=32)
    if given.images is None:
        return ClassifierOptions(epochs=16)
    return ClassifierOptions(
        widths=(64, 128, 256), depth=1, stride=1, epochs=24, learning_rate=0.05, batch_size=512
    )


def generator(given: argparse.Namespace) -> TCKR:
    """Return the arm that draws the images, with the options of `conf/base`; a larger set is adapted to for longer."""
    gpu, small = best() == "cuda", given.small
    schedule = Schedule(
        steps=200, batch_size=32, learning_rate=4e-3, warmup=0.05, averaging=0.97
    )  # fmt: skip
    if small:
        schedule = schedule.model_copy(update={"steps": 2, "batch_size": 8})
    elif given.images:
        schedule = schedule.model_copy(
            update={"steps": 2000, "batch_size": 256, "learning_rate": 2e-3, "averaging": 0.997}
        )
    return TCKR(
        captioning=CaptionOptions(
            captioner=str(MODELS / "captioner"),
            max_new_tokens=4 if small else 44,
            batch_size=4000 if gpu else 100,
        ),
        generator_adaptation=AdaptationOptions(
            generator=str(MODELS / "generator"), schedule=schedule, rank=16, flip=True, class_only=0.05, unconditional=0.05,
        ),
        knowledge_recycling=TckrRecyclingOptions(
            sampling=SamplingOptions(
                steps=1 if small else 6, guidance_scale=1.0, batch_size=1000 if gpu else 40
            )
        ),
    )  # fmt: skip
