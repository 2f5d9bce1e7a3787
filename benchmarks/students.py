"""How few sampling steps, and how little guidance, still give as good a student: the miniatures on Fashion-MNIST.

    python benchmarks/students.py [--seeds 0 1 2] [--steps 4 6 10 20] [--guidance 1 1.5 2 4] [--out students.json]
    python benchmarks/students.py --merge seed0.json seed1.json seed2.json    # of one process a seed, on several GPUs
    python benchmarks/students.py --small      # under a minute on a CPU

A seed trains a teacher and adapts the generator once, by the recipes of `conf/base` on the shipped sample; then each cell
draws as many images as there are members, from the same prompts and first noise, and trains a student on them. Accuracy
in percent on the test split, by which nothing is chosen. The published sampler (TCKR, arXiv 2504.04582) takes 20 steps
at guidance 2. A student is *as good* if the 95 % interval of its difference to that sampler's student, paired by
seed (Student's t), includes 0; the interval stands beside, for with few seeds it is wide.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Iterable, Sequence
from contextlib import chdir
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import diffusers
import pandas as pd
import torch
from kedro.config import OmegaConfigLoader
from rich.console import Console
from rich.table import Table
from scipy import stats
from torch import Tensor

from tckr.classifiers.options import ClassifierOptions, DistillationOptions
from tckr.classifiers.recipe import train_student
from tckr.diffusion.adapt import adapt
from tckr.diffusion.generator import load
from tckr.diffusion.options import AdaptationOptions, SamplingOptions
from tckr.diffusion.sample import sample
from tckr.images.ingest import ingest
from tckr.images.options import IngestionOptions
from tckr.images.tensors import to_tensor
from tckr.pipelines.captioning.nodes import caption_members
from tckr.pipelines.device import best
from tckr.pipelines.knowledge_recycling.nodes import plan_prompts, train_teacher
from tckr.pipelines.knowledge_recycling.options import RecyclingOptions
from tckr.pipelines.student_training.nodes import accuracies
from tckr.pipelines.tensors import of_split
from tckr.seeds import derive
from tckr.settings import CONFIG_LOADER_ARGS
from tckr.text.options import CaptionOptions

ROOT = Path(__file__).parents[1]
IMAGES = "data/01_raw/fashion_mnist"
SPLIT_SEED = 0  # one split for all seeds: they differ in training and sampling alone
PUBLISHED = (20, 2.0)  # steps, guidance
ON_GPU = 1000  # images drawn at once there
CONFIDENCE = 0.95
SMALL: dict[str, dict[str, Any]] = {  # of each parameter group, what differs
    "ingestion": {"members": 120, "holdout": 60, "validation": 30, "test": 200},
    "captioning": {"max_new_tokens": 8},
    "generator_adaptation": {"schedule": {"steps": 3, "batch_size": 16, "learning_rate": 1e-3}},
    "classifier": {"epochs": 6, "batch_size": 32},
    "student_training": {"patience": 1},
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every cell for every seed, or read what was measured; print and save the table."""
    given = _parse(arguments)
    diffusers.utils.logging.set_verbosity_error()
    if given.merge:
        parts = [json.loads(path.read_text()) for path in given.merge]
        facts, runs = parts[0], [run for part in parts for run in part["runs"]]
    else:
        facts = {
            "machine": torch.cuda.get_device_name() if best() == "cuda" else _processor(),
            "torch": torch.__version__,
            "small": given.small,
            "members": None,
            "published": given.published,
        }
        with chdir(ROOT):  # the configuration names places relative to it
            runs = measure(given, facts)
    result = {**facts, "runs": runs, "cells": summarise(runs, tuple(facts["published"]))}
    _print(result)
    if given.out:
        given.out.write_text(json.dumps(result, indent=2) + "\n")


def _processor() -> str:
    return f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", help="[0 1 2]")
    parser.add_argument("--steps", type=int, nargs="+", help="denoising steps [4 6 10 20]")
    parser.add_argument("--guidance", type=float, nargs="+", help="scales, 1 is none [1 1.5 2 4]")
    parser.add_argument("--merge", type=Path, nargs="+", help="results of other processes")
    parser.add_argument("--small", action="store_true", help="few images, short trainings")
    parser.add_argument("--out", type=Path, help="where to save the result")
    given = parser.parse_args(arguments)
    given.seeds = given.seeds or ([0] if given.small else [0, 1, 2])
    given.steps = given.steps or ([2, 4] if given.small else [4, 6, 10, 20])
    given.guidance = given.guidance or ([1.0, 2.0] if given.small else [1.0, 1.5, 2.0, 4.0])
    given.published = (4, 2.0) if given.small else PUBLISHED
    given.out = given.out and given.out.resolve()
    if not given.merge and given.published not in set(product(given.steps, given.guidance)):
        parser.error("--steps and --guidance must include {}, {:g}".format(*given.published))
    return given


def measure(given: argparse.Namespace, facts: dict[str, Any]) -> list[dict[str, Any]]:
    """One row a seed and cell: accuracy of teacher and student, seconds and images/s of sampling."""
    parameters = _parameters(given.small)
    images, _ = ingest(IMAGES, IngestionOptions(**parameters["ingestion"]), SPLIT_SEED)
    captioning = CaptionOptions(**{**parameters["captioning"], "checkpoints": None})
    captions = caption_members(images, captioning)
    facts["members"] = len(captions)
    cells = list(product(given.steps, given.guidance))
    return [
        row for seed in given.seeds for row in _rows_of(seed, images, captions, parameters, cells)
    ]


def _parameters(small: bool) -> dict[str, Any]:
    loader = OmegaConfigLoader(str(ROOT / "conf"), env="base", **CONFIG_LOADER_ARGS)
    parameters = dict(loader["parameters"])
    for group, changes in (SMALL if small else {}).items():
        parameters[group] = {**parameters[group], **changes}
    return parameters


def _rows_of(
    seed: int,
    images: pd.DataFrame,
    captions: pd.DataFrame,
    parameters: dict[str, Any],
    cells: Iterable[tuple[int, float]],
) -> list[dict[str, Any]]:
    """Everything of one seed."""
    members = of_split(images, "members")
    recipe = ClassifierOptions(**parameters["classifier"])
    distillation = DistillationOptions(**parameters["student_training"])
    recycling = RecyclingOptions(**parameters["knowledge_recycling"])
    adaptation = AdaptationOptions(**parameters["generator_adaptation"])
    teacher, taught = train_teacher(images, recipe, seed)
    generator = _adapted(members, captions, adaptation, seed)
    plan = plan_prompts(members, captions, recycling, len(members), seed)
    shape = tuple(to_tensor(members["image"].head(1)).shape[1:])
    models: dict[str, Any] = {"teacher": teacher}
    rows: dict[str, dict[str, Any]] = {}
    for steps, guidance in cells:
        changes = {"steps": steps, "guidance_scale": guidance}
        sampling = recycling.sampling.model_copy(update=changes)
        drawn, seconds = _drawn(generator, plan["prompt"].tolist(), shape, sampling, seed)
        name = f"{steps}, {guidance:g}"
        models[name] = train_student(
            drawn,
            torch.from_numpy(plan["label"].to_numpy(copy=True)),
            recipe,
            derive(seed, "student"),
            len(taught["classes"]),
            distillation=distillation,
            steps=taught["steps"],
            teacher=teacher,
            device=best(),
        )
        speed = {"seconds": seconds, "images_per_s": len(drawn) / seconds}
        rows[name] = {"seed": seed, "steps": steps, "guidance": guidance, **speed}
    found = {name: figures["accuracy"] for name, figures in accuracies(images, models).items()}
    return [
        {**row, "accuracy": found[name], "teacher": found["teacher"]} for name, row in rows.items()
    ]


def _adapted(
    members: pd.DataFrame, captions: pd.DataFrame, options: AdaptationOptions, seed: int
) -> Any:
    """The generator, adapted to the members."""
    generator = load(options.generator, best(), options.resolution)
    table = captions.merge(members[["image_id", "image"]], on="image_id", validate="one_to_one")
    words = table["prompt"].tolist(), table["class_name"].tolist()
    chance = derive(seed, "generator_adaptation")
    adapter, _ = adapt(generator, to_tensor(table["image"]), *words, options, chance)
    return adapter.apply(generator)


def _drawn(
    generator: Any,
    prompts: list[str],
    shape: tuple[int, ...],
    sampling: SamplingOptions,
    seed: int,
) -> tuple[Tensor, float]:
    """One image uint8 of `shape` (C, H, W) a prompt, on the CPU, and the seconds that took."""
    channels, *size = shape
    if best() == "cuda":
        sampling = sampling.model_copy(update={"batch_size": ON_GPU})
        warm = sampling.model_copy(update={"steps": 1})  # the first batch of a shape is slow
        sample(generator, prompts[:ON_GPU], tuple(size), channels, warm, 0)
    start = time.perf_counter()
    drawn = sample(generator, prompts, tuple(size), channels, sampling, derive(seed, "sampling"))
    return drawn, time.perf_counter() - start


def summarise(runs: list[dict[str, Any]], published: tuple[int, float]) -> list[dict[str, Any]]:
    """One row a cell: mean and sd over seeds, speed beside the published sampler's, the paired difference to it.

    Args:
        runs: rows of `measure`.
        published: steps and guidance that the others are compared with.

    Raises:
        ValueError: a seed lacks a cell, or was measured twice.
    """
    table = pd.DataFrame(runs)
    cell = ["steps", "guidance"]
    accuracy, speed = (
        table.pivot(index="seed", columns=cell, values=values)
        for values in ("accuracy", "images_per_s")
    )
    if accuracy.isna().any(axis=None):
        raise ValueError("every seed must have every cell")
    rows = []
    for steps, guidance in accuracy:
        own = accuracy[steps, guidance]
        difference = (own - accuracy[published]).tolist()
        low, high = _interval(difference)
        is_published = (steps, guidance) == published
        rows.append(
            {
                "steps": int(steps),
                "guidance": float(guidance),
                "seeds": len(own),
                "accuracy": mean(own),
                "sd": stdev(own) if len(own) > 1 else None,
                "images_per_s": mean(speed[steps, guidance]),
                "speed_ratio": mean(speed[steps, guidance] / speed[published]),
                "difference": mean(difference),
                "difference_low": None if is_published else low,
                "difference_high": None if is_published else high,
                "as_good": True if is_published else None if low is None else low <= 0 <= high,
            }
        )
    return rows


def _interval(differences: Sequence[float]) -> tuple[Any, Any]:
    """Interval of the mean of paired differences (Student's t); none from a single pair."""
    if len(differences) < 2:
        return None, None
    error = stdev(differences) / len(differences) ** 0.5
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(differences) - 1)) * error
    return mean(differences) - reach, mean(differences) + reach


def _print(result: dict[str, Any]) -> None:
    seeds = sorted({run["seed"] for run in result["runs"]})
    teacher = mean({run["seed"]: run["teacher"] for run in result["runs"]}.values())
    steps, guidance = result["published"]
    table = Table(
        title=f"Students of {result['members']:,} synthetic images, teacher {teacher:.2f} %, seeds {seeds}; "
        f"{result['machine']}, torch {result['torch']}"
    )
    columns = ("steps", "guidance", "student % (mean ± sd)", "images/s", "ratio")
    for name in (*columns, f"difference to {steps}, {guidance:g} (95 %)", "as good"):
        table.add_column(name, justify="right")
    for row in result["cells"]:
        spread = "" if row["sd"] is None else f" ± {row['sd']:.2f}"
        between = (
            ""
            if row["difference_low"] is None
            else f" ({row['difference_low']:+.2f} to {row['difference_high']:+.2f})"
        )
        table.add_row(
            str(row["steps"]),
            f"{row['guidance']:g}",
            f"{row['accuracy']:.2f}{spread}",
            f"{row['images_per_s']:,.0f}",
            f"{row['speed_ratio']:.2f}",
            f"{row['difference']:+.2f}{between}",
            {True: "yes", False: "no", None: ""}[row["as_good"]],
        )
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
