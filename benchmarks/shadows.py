"""Shadow classifiers as the audit trains them, beside training them one by one with a DataLoader, on this machine.

    python benchmarks/shadows.py [--data data/01_raw/fashion_mnist_full] [--shadows 64] [--stack 1 2 4] [--out result.json]
    python benchmarks/shadows.py --small        # seconds, on a CPU

Both train the same networks by the same recipe, for the same number of optimiser steps, on the same random halves of the
images, and score every image with each. One by one means the usual loop: a Dataset that makes one random view at a time,
a DataLoader with workers and pinned memory, a step in bfloat16 launched kernel by kernel. A few of those are trained, and
their time is multiplied. Then: shadows a minute against their number and against the number of images.
"""

import argparse
import gzip
import json
import math
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from tckr.audit.membership import membership_matrix
from tckr.audit.shadow_config import ShadowConfig
from tckr.audit.shadow_models import SideBySide, shadow_groups
from tckr.audit.shadow_trainers import ShadowModel, ShadowTrainers
from tckr.classifiers.augment import views
from tckr.classifiers.optimizers import build_optimizer, learning_rates
from tckr.classifiers.options import ClassifierOptions, DistillationOptions
from tckr.classifiers.predict import accuracy, logits
from tckr.classifiers.trainer import Trainer, TrainSpec

RECIPES = {
    # conf/gpu, and the default classifier of conf/base
    "gpu": ClassifierOptions(
        widths=(64, 128, 256), stride=1, epochs=24, learning_rate=0.05, batch_size=512, compile=True
    ),
    "default": ClassifierOptions(epochs=16),
    "small": ClassifierOptions(widths=(8, 16), epochs=1, batch_size=32),
}


class OneView(Dataset[tuple[Tensor, int]]):
    """A random view of one image at a time, as a Dataset usually makes it."""

    def __init__(self, images: Tensor, labels: Tensor, options: ClassifierOptions) -> None:
        self.images, self.labels = images, labels
        self.options = options.augmentation

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        view = views(self.images, torch.tensor([index]), self.options, torch.default_generator)
        return view[0], int(self.labels[index])


def one_by_one(
    images: Tensor, labels: Tensor, options: ClassifierOptions, steps: int, seed: int, device: str
) -> torch.nn.Module:
    """The usual loop."""
    torch.manual_seed(seed)
    workers = min(8, os.cpu_count() or 1) if device == "cuda" else 0
    loader = DataLoader(
        OneView(images, labels, options),
        options.batch_size,
        shuffle=True,
        num_workers=workers,
        pin_memory=device == "cuda",
        drop_last=len(images) >= options.batch_size,
        persistent_workers=workers > 0,
    )
    network = Trainer(images[:2], options, int(labels.max()) + 1).network(seed)
    model = network.to(device).train()
    optimizer = build_optimizer(model, options, rate=0.0)
    rates = learning_rates(options, steps)
    step = 0
    while step < steps:
        for pixels, classes in loader:
            optimizer.set_rate(rates[step])
            optimizer.zero_grad(set_to_none=True)
            batch = pixels.to(device, non_blocking=True, memory_format=torch.channels_last)
            with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
                predicted = model(batch)
            loss = functional.cross_entropy(
                predicted.float(),
                classes.to(device, non_blocking=True),
                label_smoothing=options.label_smoothing,
            )
            loss.backward()
            optimizer.step()
            step += 1
            if step == steps:
                break
    return model.eval()


def synchronised() -> float:
    """Now, once the device has done its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def time_ours(config: ShadowConfig, membership: np.ndarray) -> dict[str, float]:
    """Seconds of all shadows, recording and compiling included, and of the second half alone."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    start = synchronised()
    trainers, size = ShadowTrainers(config), config.stack
    rows = [ShadowModel(i, row) for i, row in enumerate(membership)]
    groups = [SideBySide(rows[i : i + size]) for i in range(0, len(rows), size)]
    marks = []
    for group in groups:
        shadow_groups(group, trainers)
        marks.append(synchronised())
    rest = marks[-1] - marks[0] if len(marks) > 1 else marks[0] - start
    count = len(rows) - size if len(marks) > 1 else len(rows)
    peak = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0
    return {
        "seconds": marks[-1] - start,
        "seconds_a_shadow_once_recorded": rest / count,
        "shadows_a_minute": 60 * count / rest,
        "peak_gib": peak,
    }


def accuracies(
    config: ShadowConfig, membership: np.ndarray, test: tuple[Tensor, Tensor]
) -> list[float]:
    """Of some shadows, in percent."""
    trainers = ShadowTrainers(config)
    found = []
    for number, row in enumerate(membership):
        inside = torch.from_numpy(np.flatnonzero(row))
        (model,) = trainers.teachers.fit([TrainSpec(number, config.steps, inside)])
        found.append(right(model, test, config.device))
    return found


def right(model: torch.nn.Module, test: tuple[Tensor, Tensor], device: str) -> float:
    """Accuracy in percent."""
    return float(accuracy(logits(model.to(device), test[0]), test[1])["accuracy"])  # type: ignore[arg-type]


def load(folder: Path | None) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Fashion-MNIST from its four files: the first 55,000 training images, and the test images; noise without a folder."""
    if folder is None:
        draw = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, (600, 1, 16, 16), generator=draw).to(torch.uint8)
        classes = torch.arange(600) % 4
        return pixels[:400], classes[:400], (pixels[400:], classes[400:])

    def read(name: str, offset: int) -> Tensor:
        with gzip.open(folder / name) as file:
            return torch.from_numpy(np.frombuffer(file.read(), np.uint8, offset=offset).copy())

    def pair(name: str) -> tuple[Tensor, Tensor]:
        pixels = read(f"{name}-images-idx3-ubyte.gz", 16).view(-1, 1, 28, 28)
        return pixels, read(f"{name}-labels-idx1-ubyte.gz", 8).long()

    pixels, classes = pair("train")
    return pixels[:55_000], classes[:55_000], pair("t10k")


def mean_sd(values: list[float]) -> str:
    """For the table."""
    array = np.array(values)
    return f"{array.mean():.2f} ± {array.std(ddof=1) if len(array) > 1 else 0:.2f}"


def main() -> None:
    """Time both ways, then the growth of ours."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data/01_raw/fashion_mnist_full"))
    parser.add_argument("--recipe", choices=[*RECIPES], default="gpu")
    parser.add_argument("--images", type=int, help="members and holdout; default: all")
    parser.add_argument("--shadows", type=int, default=64)
    parser.add_argument("--stack", type=int, nargs="+", default=[1])
    parser.add_argument("--reference", type=int, default=3, help="networks trained one by one")
    parser.add_argument("--growth", action="store_true", help="also vary shadows and images")
    parser.add_argument("--small", action="store_true", help="seconds, on noise")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.small:
        arguments.data, arguments.recipe, arguments.shadows = None, "small", 4
        arguments.stack, arguments.reference, arguments.growth = [1, 2], 2, True
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images, labels, test = load(arguments.data)
    images, labels = images[: arguments.images], labels[: arguments.images]
    options = RECIPES[arguments.recipe]
    steps = options.steps(len(images) // 2)
    membership = membership_matrix(len(images), arguments.shadows, 0.5, 0)

    def repeated(count: int, stack: int) -> ShadowConfig:
        return ShadowConfig(
            images[:count],
            labels[:count],
            n_classes=int(labels.max()) + 1,
            steps=options.steps(count // 2),
            classifier=options,
            distillation=DistillationOptions(),
            seed=0,
            device=device,
            stack=stack,
        )

    report: dict[str, Any] = {
        "recipe": arguments.recipe,
        "options": options.model_dump(mode="json"),
        "images": len(images),
        "steps": steps,
        "shadows": arguments.shadows,
        "machine": torch.cuda.get_device_name() if device == "cuda" else platform.processor(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
    }
    took, reached = [], []
    for number in range(arguments.reference):
        inside = torch.from_numpy(np.flatnonzero(membership[number]))
        start = synchronised()
        model = one_by_one(images[inside], labels[inside], options, steps, number, device)
        logits(model, images)
        took.append(synchronised() - start)
        reached.append(right(model, test, device))
    seconds = float(np.mean(took)) * arguments.shadows
    report["one_by_one"] = {"each": took, "seconds": seconds, "accuracy": reached}
    report["ours"] = {
        stack: time_ours(repeated(len(images), stack), membership) for stack in arguments.stack
    }
    report["accuracy"] = accuracies(
        repeated(len(images), 1), membership[: max(3, arguments.reference)], test
    )
    best = min(report["ours"], key=lambda stack: report["ours"][stack]["seconds"])
    if arguments.growth:
        counts = [n for n in (8, 16, 32, 64, 128) if n <= max(8, arguments.shadows)]
        report["by_shadows"] = {
            n: time_ours(repeated(len(images), best), membership_matrix(len(images), n, 0.5, 0))
            for n in counts
            if n >= best
        }
        sizes = [len(images) // part for part in (8, 4, 2, 1)]
        few = min(8, arguments.shadows)
        report["by_images"] = {
            n: time_ours(repeated(n, best), membership_matrix(n, few, 0.5, 0)) for n in sizes
        }
    show(report)
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=1) + "\n")


def show(report: dict[str, Any]) -> None:
    """Print the tables."""
    console = Console()
    usual = report["one_by_one"]
    table = Table(
        title=f"{report['shadows']} shadows, {report['steps']:,} steps each, {report['machine']}"
    )
    for column in ("way", "seconds", "times as fast", "accuracy %", "peak GiB"):
        table.add_column(column, justify="left" if column == "way" else "right")
    table.add_row(
        f"one by one ({len(usual['each'])} trained)",
        f"{usual['seconds']:.0f}",
        "1",
        mean_sd(usual["accuracy"]),
        "",
    )
    for stack, found in report["ours"].items():
        ratio = usual["seconds"] / found["seconds"]
        table.add_row(
            f"ours, {stack} side by side",
            f"{found['seconds']:.1f}",
            f"{ratio:.1f}",
            mean_sd(report["accuracy"]),
            f"{found['peak_gib']:.1f}",
        )
    console.print(table)
    for key, what in (("by_shadows", "shadows"), ("by_images", "images")):
        if key in report:
            growth = Table(title=f"against the number of {what}")
            for column in (what, "seconds", "shadows a minute, once recorded", "peak GiB"):
                growth.add_column(column, justify="right")
            for n, found in report[key].items():
                rate = found["shadows_a_minute"]
                growth.add_row(
                    f"{n:,}",
                    f"{found['seconds']:.1f}",
                    "-" if math.isnan(rate) else f"{rate:.1f}",
                    f"{found['peak_gib']:.1f}",
                )
            console.print(growth)


if __name__ == "__main__":
    main()
