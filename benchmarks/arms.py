"""An arm under differential privacy on all of Fashion-MNIST, fitted as its pipeline fits it: what each epsilon buys.

    python -m benchmarks.arms privimage data/01_raw/fashion_mnist_full [--epsilon 1 10] [--seeds 0 1 2]
    python -m benchmarks.arms privimage PATH --set privacy.teacher=0 --labels hard      # as published
    python -m benchmarks.arms privimage PATH --audit --seeds 0      # half are members; attacked through shadows, as private_audit does
    python -m benchmarks.arms privimage --merge 1_0.json 1_1.json ...    # the results of several processes
    python -m benchmarks.arms privimage --small      # the shipped sample and the sizes of conf/test, on a CPU

The options are those of conf/base and conf/gpu; `--set` changes one. 55,000 members (5,000 validation images are left unread),
60,000 synthetic images, 10,000 test images. Nothing here is chosen by an accuracy.
"""

import argparse
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

import torch
import yaml
from benchmarks.measure import Report, machine
from benchmarks.private_recycling import Clock, summary
from benchmarks.private_teacher import ROOT, labelled, score
from rich.console import Console

from benchmarks import private_audit
from tckr.classifiers.distillation import train_student
from tckr.classifiers.options import ClassifierOptions, DistillationOptions
from tckr.engine.device import best
from tckr.engine.seeds import derive
from tckr.images.ingest import ingest
from tckr.images.options import IngestionOptions
from tckr.images.tables import of_split
from tckr.synthesizers.base import Synthesizer
from tckr.synthesizers.fitted import Fitted
from tckr.synthesizers.private_set import PrivateSet, SyntheticSet
from tckr.synthesizers.registry import SYNTHESIZERS, synthesizer_class

CONSOLE = Console(width=200)
SAMPLE = ROOT / "data/01_raw/fashion_mnist"
# Of the student, whichever the arm: so that rows of different arms can be compared.
STUDENT = {
    "widths": (64, 128, 256),
    "stride": 1,
    "batch_size": 512,
    "learning_rate": 0.05,
    "label_smoothing": 0.0,
}
SMALL_STUDENT = {"widths": (8, 16), "batch_size": 40}
UNTAUGHT = "hard, no teacher"  # the teacher's share of the budget goes to the others
COLUMNS = {
    "epsilon": "epsilon", "student": "student", "labels": "labels", "views": "views", "seeds": "seeds", "teacher": "teacher %",
    "mean": "mean %", "best": "best %", "seconds": "seconds",
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Run every epsilon and seed, print the table and save it."""
    given = _parse(arguments)
    report = Report(given.json)
    if given.merge:
        report.merge(given.merge)
    else:
        report.set(**machine(best()), arguments={k: str(v) for k, v in vars(given).items()})
        if given.audit:
            _attack(given, report)
            return
        private, test = _images(given)
        report.set(members=len(private.labels), test=len(test[0]))
        for epsilon in given.epsilon:
            for seed in given.seeds:
                arm = configured(given.arm, epsilon, given.small, given.set, given.generator)
                report.set(options=arm.model_dump(mode="json"))
                run(arm, private, test, seed, given, report)
    report.set(summary=summary(report.result["rows"]))
    report.show(f"{given.arm}, {report.result['members']:,} members", "summary", COLUMNS)


def configured(
    arm: str,
    epsilon: float,
    small: bool,
    changes: Sequence[str] = (),
    generator: str | None = None,
    environment: str | None = None,
) -> Synthesizer:
    """Return an arm with the options of conf/base and conf/gpu, or conf/test; `changes` are "group.field=value".

    Args:
        environment: folder of conf/ to be read over conf/base instead; "base": nothing is.

    >>> configured("privimage", 1.0, small=True).privacy.epsilon
    1.0
    """
    places = {**_read("base/globals.yml"), "data": str(ROOT / "data")}
    places["generator"] = generator or places["generator"]
    base = _read(f"base/parameters_{arm}.yml", places)[arm]
    over = _read(f"{environment or ('test' if small else 'gpu')}/parameters.yml", places).get(
        arm, {}
    )
    options = _merged(base, over)
    options["privacy"]["epsilon"] = epsilon
    for change in changes:
        key, _, value = change.partition("=")
        *groups, field = key.split(".")
        inner = options
        for group in groups:
            inner = inner[group]
        inner[field] = yaml.safe_load(value)
    found = synthesizer_class(arm)
    return found.model_validate({k: v for k, v in options.items() if k in found.model_fields})


def _read(name: str, places: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Read a file of conf/, its places filled in."""
    text = (ROOT / "conf" / name).read_text()
    text = re.sub(r"\$\{globals:(\w+)\}", lambda found: (places or {})[found[1]], text)
    # YAML 1.1 takes 1e-3 for text; the configuration writes 1.0e-3.
    read: dict[str, Any] = yaml.safe_load(text) or {}
    return read


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with what `over` says, group by group."""
    merged = dict(base)
    for key, value in over.items():
        inner = merged.get(key)
        both = isinstance(inner, Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(inner, value) if both else value  # type: ignore[arg-type]
    return merged


def _images(given: argparse.Namespace) -> tuple[PrivateSet, tuple[torch.Tensor, torch.Tensor]]:
    sizes: dict[str, Any] = {"validation": 5000}
    if given.small:
        sizes = {"members": 60, "validation": 10, "holdout": 10, "test": 100}
    with chdir(ROOT):
        table, _ = ingest(given.images, IngestionOptions(size=28, **sizes), 0)
    names = [str(name) for name in sorted(table["class_name"].unique())]
    # Nothing is audited here, so that what would be the holdout is trained on as well.
    members, labels = labelled(of_split(table, "members", "holdout"), names)
    return PrivateSet(members, labels, names), labelled(of_split(table, "test"), names)


def run(
    arm: Synthesizer,
    private: PrivateSet,
    test: tuple[torch.Tensor, torch.Tensor],
    seed: int,
    given: argparse.Namespace,
    report: Report,
) -> None:
    """Fit the arm, draw its images, and add a row for each student."""
    clock, device = Clock(), best()
    with chdir(ROOT):
        fitted = arm.fit(private, seed, device, _timed(arm, private, seed, device, clock))
        drawn = fitted.sample(given.synthetic, seed)
    clock.lap("images")
    if given.sheet and seed == given.seeds[0]:
        _save_sheet(drawn, len(private.class_names), given.sheet)
    ledger, teacher = fitted.artefacts["ledger"], fitted.artefacts["teacher"]
    taught = arm.privacy.teacher > 0  # type: ignore[attr-defined]
    shared = {
        "epsilon": ledger.total_epsilon, "spent": ledger.epsilon(spent=True), "seed": seed,
        "teacher": score(teacher, test)[0] if taught else None, **clock.laps,
    }  # fmt: skip
    for architecture in given.student:
        for labels in given.labels if taught else ["hard"]:
            clock.lap("other")
            student = _student(drawn, teacher, architecture, labels, fitted, seed, given)
            row = {
                "student": architecture, "labels": labels if taught else UNTAUGHT, "views": given.views if labels == "stored" else None,
                "accuracy": score(student, test)[0], "agreement": None, "seconds": clock.lap("student"),
            }  # fmt: skip
            report.add("rows", {**shared, **row})
            CONSOLE.print(time.strftime("%X"), row)


def _attack(given: argparse.Namespace, report: Report) -> None:
    """Attack the arm on half of the images through shadows on other halves (scope `distillation`)."""
    given.seed = given.seeds[0]
    images = private_audit.Images(given)
    report.set(members=len(images.members.labels), test=len(images.test[0]))
    for epsilon in given.epsilon:
        arm = configured(given.arm, epsilon, given.small, given.set, given.generator)
        with chdir(ROOT):
            for row in private_audit.attacked(images, arm, epsilon, given.shadows):  # type: ignore[arg-type]
                report.add("rows", row)
    report.show(f"{given.arm}, {report.result['members']:,} members", "rows", private_audit.COLUMNS)


def _timed(
    arm: Synthesizer, private: PrivateSet, seed: int, device: str, clock: Clock
) -> dict[str, Any]:
    """Run the arm's steps one after the other, as `fit` does, with a clock."""
    known: dict[str, Any] = {}
    for step in arm.steps:
        made = getattr(arm, step.name)(
            private if step.private else private.facts, known, seed, device
        )
        known |= zip(step.makes, made, strict=True)
        CONSOLE.print(time.strftime("%X"), step.name, f"{clock.lap(step.name):.1f} s")
    return known


def _student(
    drawn: SyntheticSet,
    teacher: Any,
    architecture: str,
    labels: str,
    fitted: Fitted,
    seed: int,
    given: argparse.Namespace,
) -> Any:
    recipe = ClassifierOptions(
        architecture=architecture, **(SMALL_STUDENT if given.small else STUDENT)
    )
    return train_student(
        *drawn, recipe, derive(seed, "student"), len(fitted.class_names),
        distillation=DistillationOptions(labels=labels, views=given.views), steps=given.steps,
        teacher=teacher.to(fitted.device), device=fitted.device,
    )  # fmt: skip


def _save_sheet(drawn: SyntheticSet, n_classes: int, path: Path) -> None:
    """Save ten images of each class, a row each."""
    from PIL import Image

    rows = [
        torch.cat([*drawn.images[drawn.labels == label][:10].movedim(1, -1)], 1)
        for label in range(n_classes)
    ]
    pixels = torch.cat(rows).numpy()
    Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(path)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("arm", choices=[arm for arm in SYNTHESIZERS if _is_private(arm)])
    parser.add_argument("images", type=Path, nargs="?", help="the private set and its test split")
    parser.add_argument("--epsilon", type=float, nargs="+", help="[1 10]")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--synthetic", type=int, help="images drawn [60000]")
    parser.add_argument("--steps", type=int, help="of the student [4000]")
    parser.add_argument("--student", nargs="+", default=["resnet", "scattering"])
    parser.add_argument("--labels", nargs="+", default=["on_the_fly", "stored", "hard"])
    parser.add_argument("--views", type=int, default=4, help="of stored labels")
    parser.add_argument("--generator", help="folder of a text-to-image pipeline [the shipped one]")
    parser.add_argument(
        "--set", nargs="*", default=[], help="options of the arm, group.field=value"
    )
    parser.add_argument("--sheet", type=Path, help="where to save ten images of each class")
    parser.add_argument("--audit", action="store_true", help="attack through shadows instead")
    parser.add_argument("--shadows", type=int, help="[32]")
    parser.add_argument("--merge", type=Path, nargs="+", help="results to join, instead of a run")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--json", type=Path, help="where to save the result")
    given = parser.parse_args(arguments)
    given.images = given.images or SAMPLE
    given.epsilon = given.epsilon or ([50.0] if given.small else [1.0, 10.0])
    given.synthetic = given.synthetic or (80 if given.small else 60_000)
    given.steps = given.steps or (20 if given.small else 4000)
    given.shadows = given.shadows or (4 if given.small else 32)
    return given


def _is_private(arm: str) -> bool:
    return bool(synthesizer_class(arm).ledger())


if __name__ == "__main__":
    with torch.random.fork_rng():
        main()
