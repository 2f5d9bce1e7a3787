"""The private teacher on the members of the embedded default, beside the teacher without privacy.

    python -m benchmarks.private_teacher [--epsilon 1 10] [--seeds 0 1 2] [--json result.json]
    python -m benchmarks.private_teacher --public cifar10_animals.parquet    # how its learning rate was fixed
    python -m benchmarks.private_teacher --small

Accuracy on the sample's test split and the calibration error there, by which nothing is chosen. Noise from the operating
system, one draw a seed; features are computed once.
"""

import argparse
import time
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from benchmarks.measure import Report, machine
from torch import Tensor

from tckr.classifiers.distillation import train_teacher
from tckr.classifiers.features import Scattering
from tckr.classifiers.options import ClassifierOptions
from tckr.classifiers.predict import soft_labels
from tckr.classifiers.private_options import NOISE_ON_LOGITS, PrivateTeacherOptions
from tckr.classifiers.private_teacher import teacher_plan, train_private_teacher
from tckr.dp import Ledger, Noise, delta_default
from tckr.engine.device import best
from tckr.images.ingest import ingest
from tckr.images.options import IngestionOptions
from tckr.images.tables import of_split
from tckr.images.tensors import to_tensor
from tckr.metrics.calibration import expected_calibration_error

ROOT = Path(__file__).parents[1]
FARTHER = (0.25, 0.5, 1.0, 2.0, 4.0, 16.0)  # multiples of the rule's distance that are compared
COLUMNS = {
    "teacher": "teacher", "epsilon": "epsilon", "images": "images", "accuracy": "accuracy %", "sd": "sd",
    "calibration_error": "ECE", "seconds": "seconds",
}  # fmt: skip
Labelled = tuple[Tensor, Tensor]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, print the table and save it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--epsilon", type=float, nargs="+", default=[1.0, 10.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--public", type=Path, help="Parquet of public photographs, see data/01_raw/public"
    )
    parser.add_argument("--small", action="store_true", help="few images, seconds")
    parser.add_argument("--json", type=Path, help="where to save the result")
    given = parser.parse_args(arguments)
    report = Report(given.json)
    report.set(**machine(best()))
    if given.public:
        learning_rates(report, given)
        return
    members, test = fashion(given.small)
    n_classes = int(members[1].max()) + 1
    start = time.perf_counter()
    teacher = train_teacher(
        *members, ClassifierOptions(epochs=2 if given.small else 16), 0, n_classes, device=best()
    )
    add(
        report,
        "no privacy",
        None,
        len(members[0]),
        [score(teacher, test)],
        time.perf_counter() - start,
    )
    options = PrivateTeacherOptions()
    for epsilon in given.epsilon:
        start = time.perf_counter()
        found = [score(private(members, n_classes, options, epsilon), test) for _ in given.seeds]
        seconds = (time.perf_counter() - start) / len(found)
        add(report, f"private, {options.features}", epsilon, len(members[0]), found, seconds)
    report.show("Teachers", "rows", COLUMNS)


def private(
    images: Labelled,
    n_classes: int,
    options: PrivateTeacherOptions,
    epsilon: float,
    noise: Noise | None = None,
) -> Any:
    """A teacher on which the whole budget is spent."""
    n = len(images[0])
    ledger, noise = Ledger(epsilon, delta_default(n), n, "benchmark"), noise or Noise()
    ledger.plan([teacher_plan(options, share=1)])
    entry = ledger.spend("teacher", noise)
    return train_private_teacher(*images, n_classes, options, entry, noise, best(), count=n)


def score(teacher: Any, test: Labelled) -> tuple[float, float]:
    """Accuracy, percent, and calibration error."""
    soft = soft_labels(teacher.to(best()), test[0])
    right = (soft.argmax(1) == test[1]).double().mean()
    return 100 * float(right), expected_calibration_error(soft, test[1])


def add(
    report: Report,
    name: str,
    epsilon: float | None,
    images: int,
    found: list[tuple[float, float]],
    seconds: float,
) -> None:
    """One row: means over the draws of the noise."""
    accuracies, errors = zip(*found, strict=True)
    spread = float(np.std(accuracies, ddof=1)) if len(found) > 1 else None
    report.add(
        "rows",
        {
            "teacher": name, "epsilon": epsilon, "images": images, "accuracy": float(np.mean(accuracies)), "sd": spread,
            "calibration_error": float(np.mean(errors)), "seconds": seconds,
        },
    )  # fmt: skip


def learning_rates(report: Report, given: argparse.Namespace) -> None:
    """How far the weights should travel, on public photographs: multiples of the rule of `PrivateTeacherOptions`."""
    usual = PrivateTeacherOptions()
    counts = [300] if given.small else [3000, 30_000]
    for count in counts:
        members, test = photographs(given.public, count)
        n_classes = int(members[1].max()) + 1
        size = Scattering(*members[0].shape[1:]).size + 1
        for epsilon in given.epsilon:
            ledger = Ledger(epsilon, delta_default(count), count, "public")
            [entry] = ledger.plan([teacher_plan(usual, share=1)])
            rate = usual.rate_for(entry.noise_multiplier, count, size)
            for factor in FARTHER:
                options = usual.model_copy(update={"learning_rate": factor * rate})
                accuracy, error = score(private(members, n_classes, options, epsilon), test)
                report.add(
                    "learning_rates",
                    {
                        "images": count, "epsilon": epsilon, "noise_on_logits": factor * NOISE_ON_LOGITS,
                        "accuracy": accuracy, "calibration_error": error,
                    },
                )  # fmt: skip
    columns = {"images": "images", "epsilon": "epsilon", "noise_on_logits": "noise on logits", "accuracy": "accuracy %", "calibration_error": "ECE"}  # fmt: skip
    report.show("Public photographs", "learning_rates", columns)


def fashion(small: bool) -> tuple[Labelled, Labelled]:
    """Members and test images of the embedded default."""
    few = {"members": 300, "holdout": 60, "validation": 30, "test": 200} if small else {}
    with chdir(ROOT):
        table, _ = ingest("data/01_raw/fashion_mnist", IngestionOptions(size=28, **few), 0)
    names = sorted(table["class_name"].unique())
    return tuple(labelled(of_split(table, split), names) for split in ("members", "test"))  # type: ignore[return-value]


def labelled(table: pd.DataFrame, names: list[str]) -> Labelled:
    """Images and the places of their class names."""
    classes = torch.tensor([names.index(name) for name in table["class_name"]])
    return to_tensor(table["image"]), classes


def photographs(path: Path, count: int) -> tuple[Labelled, Labelled]:
    """Grey photographs of 28 pixels; `count` of the training split, the whole test split."""
    table = pd.read_parquet(path).rename(columns={"label": "class_name"})
    names = sorted(table["class_name"].unique())
    train = table[table["split"] == "train"].sample(count, random_state=0)

    def grey(part: pd.DataFrame) -> Labelled:
        images, labels = labelled(
            part.assign(image=[_bytes(cell) for cell in part["image"]]), names
        )
        shrunk = torch.nn.functional.interpolate(
            images.float().mean(1, keepdim=True), (28, 28), mode="area"
        )
        return shrunk.round().to(torch.uint8), labels

    return grey(train), grey(table[table["split"] == "test"])


def _bytes(cell: Any) -> bytes:
    return bytes(cell["bytes"] if isinstance(cell, dict) else cell)


if __name__ == "__main__":
    main()
