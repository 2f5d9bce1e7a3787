"""Grids of students of the miniatures on Fashion-MNIST: one teacher a seed, one student a cell, compared pair by pair.

What `students.py` (sampling) and `batches.py` (adaptation) share. Recipes are those of `conf/base` on the shipped sample
with its captions; the seeds differ in training, adaptation and sampling, and share one split.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import pandas as pd
import torch
from benchmarks.cells import Run, compared
from kedro.config import OmegaConfigLoader
from torch import Tensor

from tckr.classifiers.distillation import train_student
from tckr.classifiers.options import (
    ClassifierOptions,
    DistillationOptions,
    LabelSource,
    RegenerationOptions,
)
from tckr.diffusion.adapter import Adapter
from tckr.diffusion.lora import adapt
from tckr.diffusion.options import AdaptationOptions, SamplingOptions
from tckr.diffusion.pipeline import load
from tckr.diffusion.sampling import sample
from tckr.engine.device import best
from tckr.engine.seeds import derive
from tckr.images.ingest import ingest
from tckr.images.options import IngestionOptions
from tckr.images.tables import of_split
from tckr.images.tensors import to_tensor
from tckr.options import Schedule
from tckr.pipelines.captioning.nodes import caption_members
from tckr.pipelines.ingestion.nodes import state_public_facts
from tckr.pipelines.knowledge_recycling.nodes import fitted_on_members, train_teacher
from tckr.pipelines.student_training.nodes import accuracies
from tckr.settings import CONFIG_LOADER_ARGS
from tckr.synthesizers.private_set import SyntheticSet
from tckr.synthesizers.tckr import TCKR, TckrRecyclingOptions
from tckr.text.options import CaptionOptions

ROOT = Path(__file__).parents[1]
IMAGES = "data/01_raw/fashion_mnist"
SPLIT_SEED = 0  # one split for all seeds
ON_GPU = 1000  # images drawn at once there
SMALL: dict[str, dict[str, Any]] = {  # of each parameter group, what differs
    "ingestion": {"members": 120, "holdout": 60, "validation": 30, "test": 200},
    "captioning": {"max_new_tokens": 8},
    "generator_adaptation": {"schedule": {"steps": 3, "batch_size": 16, "learning_rate": 1e-3}},
    "classifier": {"epochs": 6, "batch_size": 32},
    "student_training": {"patience": 1},
}


@dataclass(frozen=True)
class Setting:
    """What all seeds share: the split images, the members' captions and the parameters."""

    images: pd.DataFrame
    captions: pd.DataFrame
    parameters: dict[str, Any]

    @property
    def members(self) -> pd.DataFrame:
        """The members with image and prompt, in the order of their captions."""
        images = of_split(self.images, "members")[["image_id", "image"]]
        return self.captions.merge(images, on="image_id", validate="one_to_one")

    @property
    def adaptation(self) -> AdaptationOptions:
        """As `conf/base` has it."""
        return AdaptationOptions(**self.parameters["generator_adaptation"])

    @property
    def recycling(self) -> TckrRecyclingOptions:
        """As `conf/base` has it."""
        return TckrRecyclingOptions(**self.parameters["knowledge_recycling"])


def setting(small: bool, members: int | None = None) -> Setting:
    """Ingest and caption the shipped images; `members` of them, or as many as `conf/base` or `small` says."""
    loader = OmegaConfigLoader(str(ROOT / "conf"), env="base", **CONFIG_LOADER_ARGS)
    parameters = dict(loader["parameters"])
    for group, changes in (SMALL if small else {}).items():
        parameters[group] = {**parameters[group], **changes}
    if members is not None:
        parameters["ingestion"] = {**parameters["ingestion"], "members": members}
    with chdir(ROOT):  # the configuration names places relative to it
        images, _ = ingest(IMAGES, IngestionOptions(**parameters["ingestion"]), SPLIT_SEED)
        captioning = CaptionOptions(**{**parameters["captioning"], "checkpoints": None})
        return Setting(images, caption_members(images, captioning), parameters)


class Seed:
    """A teacher, and students that differ in how the generator was adapted or asked."""

    def __init__(self, setting: Setting, seed: int) -> None:
        """Train the teacher and choose the prompts, one a member."""
        self.setting, self.seed = setting, seed
        self._recipe = ClassifierOptions(**setting.parameters["classifier"])
        self._distillation = DistillationOptions(**setting.parameters["student_training"])
        self._teacher, self._taught = train_teacher(setting.images, self._recipe, seed)
        self.teacher = self._accuracy(self._teacher)
        count = len(setting.members)
        arm = TCKR.partly(knowledge_recycling=setting.recycling)
        facts = state_public_facts(setting.images)
        fitted = fitted_on_members(arm, {"captions": setting.captions}, facts)
        self._plan = fitted.plan_prompts(count, seed)
        self._facts = facts

    def adapted(self, schedule: Schedule | None = None) -> tuple[Any, pd.DataFrame, float]:
        """A generator adapted to the members, its loss curve, and the seconds that took."""
        generator, adapter, losses, seconds = self.adapter(schedule)
        return adapter.apply(generator), losses, seconds

    def adapter(self, schedule: Schedule | None = None) -> tuple[Any, Adapter, pd.DataFrame, float]:
        """The generator as it was downloaded, the adapter, its loss curve, and the seconds that took."""
        options = self.setting.adaptation
        if schedule:
            options = options.model_copy(update={"schedule": schedule})
        members = self.setting.members
        with chdir(ROOT):
            generator = load(options.generator, best(), options.resolution)
        words = members["prompt"].tolist(), members["class_name"].tolist()
        chance = derive(self.seed, "generator_adaptation")
        images = to_tensor(members["image"])
        start = time.perf_counter()
        adapter, losses = adapt(generator, images, *words, options, chance)
        seconds = time.perf_counter() - start
        return generator, adapter, losses, seconds

    def drawn(self, generator: Any, sampling: SamplingOptions) -> tuple[Tensor, float]:
        """One image a prompt, uint8 (N, C, H, W) on the CPU, and the seconds that took."""
        prompts = self._plan["prompt"].tolist()
        channels, *size = to_tensor(self.setting.members["image"].head(1)).shape[1:]
        if best() == "cuda":
            sampling = sampling.model_copy(update={"batch_size": ON_GPU})
            warm = sampling.model_copy(update={"steps": 1})  # the first batch of a shape is slow
            sample(generator, prompts[:ON_GPU], tuple(size), channels, warm, 0)
        chance = derive(self.seed, "sampling")
        start = time.perf_counter()
        drawn = sample(generator, prompts, tuple(size), channels, sampling, chance)
        return drawn, time.perf_counter() - start

    def recycled(self, adapter: Adapter, **recycling: Any) -> SyntheticSet:
        """Draw a set with these options of `knowledge_recycling` beside those of `conf/base`."""
        arm = TCKR.partly(
            generator_adaptation=self.setting.adaptation,
            knowledge_recycling=TckrRecyclingOptions(
                **{**self.setting.parameters["knowledge_recycling"], **recycling}
            ),
        )
        artefacts = {"captions": self.setting.captions, "adapter": adapter}
        fitted = fitted_on_members(arm, artefacts, self._facts, self._teacher)
        with chdir(ROOT):
            count = arm.knowledge_recycling.n_images(fitted.facts.n_members)
            return fitted.sample(count, self.seed)

    def student(
        self,
        images: Tensor,
        labels: Tensor | None = None,
        *,
        source: LabelSource | None = None,
        regenerate: RegenerationOptions | None = None,
    ) -> float:
        """Train a student on what was drawn; its accuracy on the test split, percent, by which nothing is chosen.

        Args:
            images: uint8 (M, C, H, W).
            labels: of their prompts; None takes those of `drawn`.
            source: of the labels that it learns from; None takes that of `conf/base`.
            regenerate: shows it slice after slice.
        """
        if labels is None:
            labels = torch.from_numpy(self._plan["label"].to_numpy(copy=True))
        changes: dict[str, Any] = {"regenerate": regenerate}
        if source is not None:
            changes["labels"] = source
        student = train_student(
            images,
            labels,
            self._recipe,
            derive(self.seed, "student"),
            len(self._taught["classes"]),
            distillation=self._distillation.model_copy(update=changes),
            steps=self._taught["steps"],
            teacher=self._teacher,
            device=best(),
        )
        return self._accuracy(student)

    def _accuracy(self, model: Any) -> float:
        return float(accuracies(self.setting.images, {"model": model})["model"]["accuracy"])


def options(parser: argparse.ArgumentParser) -> None:
    """What every grid can be told."""
    parser.add_argument("--seeds", type=int, nargs="+", help="[0 1 2]")
    parser.add_argument("--merge", type=Path, nargs="+", help="results of other processes")
    parser.add_argument("--members", type=int, help="train on so many [as in conf/base]")
    parser.add_argument("--small", action="store_true", help="few images, short trainings")
    parser.add_argument("--out", type=Path, help="where to save the result")


def run(
    given: argparse.Namespace, keys: Sequence[str], measure: Callable[[Seed], Iterator[Run]]
) -> dict[str, Any]:
    """Measure every cell for every seed, or read what was measured, and compare; each run is saved when it is done.

    Args:
        given: of a parser with `options`; `published` is the cell that the others are compared with.
        keys: of a run, those that name its cell.
        measure: runs of one seed, each with its cell and the student's `accuracy`.
    """
    diffusers.utils.logging.set_verbosity_error()
    if given.merge:
        parts = [json.loads(path.read_text()) for path in given.merge]
        facts, runs = parts[0], [run for part in parts for run in part["runs"]]
    else:
        shared = setting(given.small, given.members)
        facts = {
            "machine": torch.cuda.get_device_name() if best() == "cuda" else _processor(),
            "torch": torch.__version__,
            "small": given.small,
            "members": len(shared.members),
            "published": given.published,
        }
        seeds = given.seeds or ([0] if given.small else [0, 1, 2])
        runs = []
        for number in seeds:
            seed = Seed(shared, number)
            for row in measure(seed):
                runs.append({"seed": number, **row, "teacher": seed.teacher})
                save({**facts, "runs": runs}, given.out)
    cells = compared(runs, keys, tuple(facts["published"]))
    return {**facts, "runs": runs, "cells": cells}


def save(result: dict[str, Any], path: Path | None) -> None:
    """Write the result as JSON, if a path is given."""
    if path:
        path.write_text(json.dumps(result, indent=2) + "\n")


def _processor() -> str:
    return f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}"
