"""Labels are the channel: how much a soft label tells, against what student and released set give away, setting by setting.

    python -m benchmarks.knob --json knob.json     # the shipped sample, a process for each seed, on one GPU
    python -m benchmarks.knob data/01_raw/fashion_mnist_full --json knob.json      # anything that ingestion reads
    python -m benchmarks.knob --rows "on the fly" "T = 2" --seeds 0 --alone
    python -m benchmarks.knob --small     # under a minute on a CPU

A seed trains a teacher, adapts the generator, draws one set of images and trains the teachers of the shadows: once, for all
rows, which differ in the labels alone. A row trains the student, the student that an attacker trains on the set as it is handed
out (`released`: these images, with the labels stored that the row lets out), and both again for every shadow. Recipes and sizes
are those of `conf/base`, on a PATH those of `conf/gpu`. The attack of record is named here: RMIA, scope `distillation`, which
holds the images fixed. `worst` is the AUC in the 1 % of the images that the shadows call most exposed. `recipe` is the mean AUC
over the shadows, each attacked with the others. The best row is chosen by the accuracy on validation images.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.kr import FASHION_MNIST
from benchmarks.measure import Report, machine, now
from benchmarks.private_audit import private_arm
from benchmarks.private_teacher import ROOT, labelled, score
from numpy.typing import NDArray

from tckr.audit import attacker
from tckr.audit.audit import audit
from tckr.audit.membership import membership_matrix
from tckr.audit.options import AttackerOptions, AuditOptions, ReleaseThreat, Scope
from tckr.audit.resynthesis import OwnTeacher
from tckr.audit.shadow_config import ShadowConfig, StudentConfig
from tckr.audit.shadow_models import ShadowModel, run_shadows
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
from tckr.synthesizers.private_set import PrivateSet
from tckr.synthesizers.tckr import TCKR, TckrRecyclingOptions
from tckr.text.options import CaptionOptions

MODELS = ROOT / "data/06_models/foundation"
SAMPLE = ROOT / "data/01_raw/fashion_mnist"
SPLIT_SEED = 0  # one split for all seeds
EPSILON = 10.0  # of the private teacher
COSTS_AT_MOST = 1.0  # point of accuracy, of the best row
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
FIGURES = {
    "accuracy": "student %", "AUC_released": "AUC released", "AUC_student": "AUC student", "AOP": "AOP",
    "worst_released": "worst released", "worst_student": "worst student",
    "recipe_released": "recipe released", "recipe_student": "recipe student",
}  # fmt: skip
COLUMNS = {"row": "labels", "seeds": "seeds", **{f"{key}_text": name for key, name in FIGURES.items()}}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Run every seed, beside each other or in this process; print the table and save it."""
    given = _parse(arguments)
    started = time.monotonic()
    report = Report(given.json)
    report.set(**machine(best()), arguments={k: str(v) for k, v in vars(given).items()})
    if given.merge:
        report.merge(given.merge)
    elif given.alone:
        for seed in given.seeds:
            study = Study(given, seed, started)
            report.set(members=len(study.images.members.labels), shadows=given.shadows)
            report.add("rows", study.teacher_row())
            for name in given.rows:
                if not study.fits():
                    break
                report.add("rows", study.row(name))
                if study.device == "cuda":
                    gc.collect()  # captured steps hold each other, and with them memory of the card
    else:
        report.merge(_beside_each_other(given))
    report.set(summary=summary(report.result.get("rows", [])))
    report.set(best=best_row(report.result["summary"]), seconds=time.monotonic() - started)
    title = f"{report.result.get('members', 0):,} members, mean (range) over the seeds"
    report.show(title, "summary", COLUMNS)


def summary(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return mean and range over the seeds of each row's figures; None where one of them was not measured."""
    found = []
    for name in dict.fromkeys(row["row"] for row in rows):
        own = [row for row in rows if row["row"] == name]
        line: dict[str, Any] = {"row": name, "seeds": len(own)}
        for key in (*FIGURES, "validation"):
            values = [row.get(key) for row in own]
            measured = None not in values
            line[key] = float(np.mean(values)) if measured else None
            line[f"{key}_low"] = float(np.min(values)) if measured else None
            line[f"{key}_high"] = float(np.max(values)) if measured else None
            line[f"{key}_text"] = (
                "{:.1f} ({:.1f}-{:.1f})".format(*(line[key + end] for end in ("", "_low", "_high")))
                if measured
                else "not measured"
            )
        found.append(line)
    return found


def best_row(lines: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the row of the largest AOP that costs at most a point of accuracy, both by validation images."""
    by_name = {line["row"]: line for line in lines}
    if DEFAULT not in by_name:
        return None
    least = by_name[DEFAULT]["validation"] - COSTS_AT_MOST
    able = [
        line
        for name, line in by_name.items()
        if name in ROWS and line["AUC_student"] is not None and line["validation"] >= least
    ]
    return max(able, key=lambda line: aop(line["validation"], line["AUC_student"]))["row"]


def aop(accuracy: float, auc: float) -> float:
    """Return accuracy over privacy (arXiv 2306.03054), of percent and percent.

    >>> aop(90.0, 50.0), round(aop(86.2, 58.4), 1)
    (90.0, 63.2)
    """
    return accuracy / max(2 * auc / 100, 1) ** 2


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("images", type=Path, nargs="?", help="the private set and its test split")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--seeds", type=int, nargs="+", help="[0 1 2]")
    parser.add_argument("--shadows", type=int, help="an even number [16]")
    parser.add_argument("--stack", type=int, help="networks that a GPU trains side by side [16]")
    parser.add_argument("--patience", type=float, default=2.0, help="of the students")
    parser.add_argument("--minutes", type=float, default=9.0, help="no row is begun that would end later")  # fmt: skip
    parser.add_argument("--alone", action="store_true", help="one seed after another, in this process")  # fmt: skip
    parser.add_argument("--merge", type=Path, nargs="+", help="results of other calls, joined")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--json", type=Path, help="where to save the result")
    given = parser.parse_args(arguments)
    given.seeds = given.seeds or ([0] if given.small else [0, 1, 2])
    given.shadows = given.shadows or (4 if given.small else 16)
    given.stack = given.stack or (8 if given.images else 16)
    given.alone = given.alone or len(given.seeds) == 1
    if given.json is None and not (given.alone or given.merge):
        parser.error("several processes need --json, beside which they save their own results")
    return given


def _beside_each_other(given: argparse.Namespace) -> list[Path]:
    """Run every seed as a process of its own on the one card, and return the files of those that did anything."""
    given.json.parent.mkdir(parents=True, exist_ok=True)
    own = ["--alone", "--shadows", given.shadows, "--stack", given.stack, "--patience", given.patience,
           "--minutes", given.minutes, "--rows", *given.rows, *["--small"] * given.small]  # fmt: skip
    threads = max(1, (os.cpu_count() or 1) // len(given.seeds))
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TCKR_PROGRESS": "0"}
    parts, running = [], []
    for seed in given.seeds:
        parts.append(given.json.with_suffix(f".{seed}.json"))
        parts[-1].unlink(missing_ok=True)
        command = [sys.executable, "-m", "benchmarks.knob", *([given.images] if given.images else []),
                   *own, "--seeds", seed, "--json", parts[-1]]  # fmt: skip
        running.append(subprocess.Popen([str(word) for word in command], env=environment))  # noqa: S603
    for process in running:
        if process.wait() != 0:
            print("failed:", " ".join(map(str, process.args)), file=sys.stderr)  # type: ignore[arg-type] # noqa: T201
    done = [part for part in parts if part.is_file() and "rows" in json.loads(part.read_text())]
    if not done:
        sys.exit("no process did a row")
    return done


class Images:
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
        self.names = [str(name) for name in sorted(table["class_name"].unique())]
        audited = of_split(table, "members", "holdout")
        self.pixels, self.labels = labelled(audited, self.names)
        self.is_member = (audited["split"] == "members").to_numpy()
        rows = np.flatnonzero(self.is_member).tolist()
        self.members = PrivateSet(self.pixels, self.labels, self.names).at(rows)
        self.test, self.validation = (
            labelled(of_split(table, split), self.names) for split in ("test", "validation")
        )


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
        self.remembered = Remembered(arm, self.images.names, self._shadow_teachers())
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
        return teacher.to(self.device), Remembered(arm, self.images.names, taught)

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


if __name__ == "__main__":
    with torch.random.fork_rng():
        main()
