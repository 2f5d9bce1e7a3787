"""SPTI on all of Fashion-MNIST: what evolved prompts bring, with labels as published and with those of a private teacher.

    python -m benchmarks.spti data/01_raw/fashion_mnist_full [--epsilon 1 10] [--seeds 0 1 2] [--side-by-side]
    python -m benchmarks.spti PATH --features scattering --by captions      # who votes, in which space
    python -m benchmarks.spti PATH --audit --seeds 0     # half are members; attacked through shadows, as private_audit does
    python -m benchmarks.spti --merge 1_0.json 1_1.json ...                 # the results of several processes
    python -m benchmarks.spti --small                    # the shipped sample, a minute or two on a CPU

PATH is anything that ingestion reads: a folder of IDX files, a Parquet file. 55,000 members (5,000 validation images are left
unread), 60,000 synthetic images, 10,000 test images. `hard`: the whole budget for the votes, the class of the prompt is the
label, as published. `soft`: a tenth of mu^2 for the votes, the rest for a teacher that labels. The population follows from theory,
an average candidate gets twice as many votes as noise; 9 iterations and 6 variations are published. Nothing here is chosen by an
accuracy. The true distance to the private images is measured too, so that nothing of a run would be released.
`--side-by-side` starts a process for each epsilon and seed, and merges their results.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pandas as pd
from benchmarks.measure import Report, machine
from benchmarks.private_recycling import MODELS, SAMPLE
from benchmarks.private_teacher import ROOT, labelled, score

from benchmarks import private_audit
from tckr.classifiers.distillation import train_student
from tckr.classifiers.options import AugmentationOptions, ClassifierOptions, DistillationOptions
from tckr.classifiers.private_options import PrivateTeacherOptions
from tckr.diffusion.options import SamplingOptions
from tckr.dp import EvolutionOptions, Ledger, Plan, delta_default, votes_plan
from tckr.engine.device import best
from tckr.engine.seeds import derive
from tckr.images.ingest import ingest
from tckr.images.options import IngestionOptions
from tckr.images.tables import of_split
from tckr.synthesizers.fitted import Fitted
from tckr.synthesizers.private_set import PrivateSet
from tckr.synthesizers.spti import Spti, SptiBudget, SptiDrawingOptions, VotingOptions
from tckr.text.options import CaptionOptions
from tckr.text.sources.options import TextSourceOptions

# Share of mu^2 that the votes get; what is left is the teacher's.
VOTES = {"hard": 1.0, "soft": 0.1}
COLUMNS = {
    "epsilon": "epsilon", "labels": "labels", "seeds": "seeds", "candidates": "candidates", "sigma": "sigma", "first": "distance, random",
    "last": "evolved", "seen": "as votes see it", "teacher": "teacher %", "mean": "student %", "best": "best %", "seconds": "seconds",
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Run every epsilon, kind of label and seed; print the table and save it."""
    given = _parse(arguments)
    report = Report(given.json)
    if given.side_by_side:
        report.merge(_side_by_side(given))
    elif given.merge:
        report.merge(given.merge)
    else:
        report.set(**machine(best()), arguments={k: str(v) for k, v in vars(given).items()})
        if given.audit:
            _attack(given, report)
            return
        images = Images(given)
        report.set(members=len(images.members.labels), test=len(images.test[0]))
        for epsilon in given.epsilon:
            for seed in given.seeds:
                for labels in given.labels:
                    report.add("rows", run(images, epsilon, labels, seed, given))
    report.set(summary=summary(report.result["rows"]))
    report.show(f"{report.result['members']:,} members", "summary", COLUMNS)


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean over the seeds, of each epsilon and kind of label."""
    table = pd.DataFrame(rows)
    table["first"] = [found[0] for found in table["true_distance"]]
    table["last"] = [found[-1] for found in table["true_distance"]]
    table["seen"] = [found[-1] for found in table["distance"]]
    found = table.groupby(["epsilon", "labels"], sort=False).agg(
        seeds=("accuracy", "size"), candidates=("candidates", "first"), sigma=("sigma", "mean"), first=("first", "mean"),
        last=("last", "mean"), seen=("seen", "mean"), teacher=("teacher", "mean"), mean=("accuracy", "mean"),
        best=("accuracy", "max"), seconds=("seconds", "mean"),
    )  # fmt: skip
    listed: list[dict[str, Any]] = json.loads(found.reset_index().to_json(orient="records"))
    return listed


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("images", type=Path, nargs="?", help="the private set and its test split")
    parser.add_argument("--epsilon", type=float, nargs="+", help="[1 10]; small: [10]")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--labels", nargs="+", default=["hard", "soft"], choices=list(VOTES))
    parser.add_argument("--features", default="clip", choices=["clip", "scattering"])
    parser.add_argument("--by", default="images", choices=["images", "captions"])
    parser.add_argument("--population", type=int, help="of a class, at most [100]")
    parser.add_argument("--size", type=int, default=28, help="of the images, pixels")
    parser.add_argument("--synthetic", type=int, help="images drawn [60000]")
    parser.add_argument("--steps", type=int, help="of the student [4000]")
    parser.add_argument("--audit", action="store_true", help="attack through shadows instead")
    parser.add_argument("--shadows", type=int, help="[32]")
    parser.add_argument("--side-by-side", action="store_true", help="a process per run")
    parser.add_argument("--merge", type=Path, nargs="+", help="results to join, instead of a run")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--json", type=Path, help="where to save the result")
    given = parser.parse_args(arguments)
    given.epsilon = given.epsilon or ([10.0] if given.small else [1.0, 10.0])
    given.population = given.population or (2 if given.small else 100)
    given.synthetic = given.synthetic or (60 if given.small else 60_000)
    given.steps = given.steps or (20 if given.small else 4000)
    given.shadows = given.shadows or (4 if given.small else 32)
    return given


class Images:
    """Members and test images: what would be the holdout is trained on as well, since nothing is audited here."""

    def __init__(self, given: argparse.Namespace) -> None:
        sizes: dict[str, Any] = {"validation": 5000}
        if given.small:
            sizes = {"members": 900, "validation": 30, "holdout": 30, "test": 100}
        with chdir(ROOT):
            table, _ = ingest(given.images or SAMPLE, IngestionOptions(size=given.size, **sizes), 0)
        self.names = [str(name) for name in sorted(table["class_name"].unique())]
        members = labelled(of_split(table, "members", "holdout"), self.names)
        self.members = PrivateSet(*members, self.names)
        self.test = labelled(of_split(table, "test"), self.names)


def arm_of(given: argparse.Namespace, epsilon: float, labels: str, n: int, n_classes: int) -> Spti:
    """Return the arm with a population that theory allows: an average candidate gets twice as many votes as noise."""
    gpu, variations = best() == "cuda", 2 if given.small else 6
    iterations = 2 if given.small else 9
    budget = SptiBudget(
        epsilon=epsilon, votes=VOTES[labels], teacher=1 - VOTES[labels], research=not given.audit
    )
    ledger = Ledger(epsilon, delta_default(n), n, "planned")
    other = Plan(
        name="teacher",
        mechanism="gaussian",
        steps=100,
        share=budget.teacher,
        why="plan",
        code="plan",
    )
    votes, *_ = ledger.plan([votes_plan(iterations, budget.votes), other])
    most = int(n / (2 * votes.sigma) / n_classes / (1 + variations))
    return Spti(
        privacy=budget,
        text=TextSourceOptions(model=str(MODELS / "masked")),
        evolution=EvolutionOptions(
            population=max(1, min(given.population, most)), variations=variations, iterations=iterations
        ),
        voting=VotingOptions(by=given.by, features=given.features, encoder=str(MODELS / "clip")),
        captioning=CaptionOptions(
            captioner=str(MODELS / "captioner"), max_new_tokens=44, batch_size=4000 if gpu else 100
        ),
        private_teacher=PrivateTeacherOptions(steps=20 if given.small else 100),
        classifier=ClassifierOptions(
            widths=(8, 16) if given.small else (64, 128, 256), stride=1, batch_size=40 if given.small else 512,
            learning_rate=0.05, label_smoothing=0.1 if labels == "hard" else 0.0, augmentation=AugmentationOptions(shift=2),
        ),
        knowledge_recycling=SptiDrawingOptions(
            generator=str(MODELS / "generator"),
            sampling=SamplingOptions(
                steps=2 if given.small else 6, guidance_scale=1.0, batch_size=1000 if gpu else 50
            ),
        ),
    )  # fmt: skip


def run(
    images: Images, epsilon: float, labels: str, seed: int, given: argparse.Namespace
) -> dict[str, Any]:
    """Fit, draw, train a student, and measure."""
    start, device, n = time.perf_counter(), best(), len(images.members.labels)
    arm = arm_of(given, epsilon, labels, n, len(images.names))
    fitted = arm.fit(images.members, seed, device)
    evolved = time.perf_counter()
    drawn = fitted.sample(given.synthetic, seed)
    ledger, teacher = fitted.artefacts["ledger"], fitted.artefacts["teacher"]
    student = train_student(
        *drawn, arm.classifier, derive(seed, "student"), len(images.names),
        distillation=DistillationOptions(labels="hard" if labels == "hard" else "on_the_fly"), steps=given.steps,
        teacher=teacher.to(device), device=device,
    )  # fmt: skip
    distances = fitted.artefacts["vote_distances"]
    return {
        "epsilon": epsilon, "labels": labels, "seed": seed, "spent": ledger.epsilon(spent=True), "sigma": ledger["votes"].sigma,
        "candidates": arm.evolution.candidates * len(images.names), "distance": distances["distance"].tolist(),
        "true_distance": distances["true_distance"].tolist(),
        "teacher": score(teacher, images.test)[0] if labels == "soft" else None,
        "accuracy": score(student, images.test)[0], "fit_seconds": evolved - start, "seconds": time.perf_counter() - start,
        "prompts": best_prompts(fitted),
    }  # fmt: skip


def best_prompts(fitted: Fitted) -> list[str]:
    """Return the prompt with most votes of each class."""
    return list(fitted.artefacts["population"].groupby("label")["prompt"].first())


def _attack(given: argparse.Namespace, report: Report) -> None:
    """Attack the arm on half of the images through shadows on other halves (scope `distillation`)."""
    given.seed = given.seeds[0]
    images = private_audit.Images(given)
    n = len(images.members.labels)
    report.set(members=n, test=len(images.test[0]))
    for epsilon in given.epsilon:
        arm = arm_of(given, epsilon, "soft", n, len(images.names))
        for row in private_audit.attacked(images, arm, epsilon, given.shadows):
            report.add("rows", row)
    report.show(f"{n:,} members", "rows", private_audit.COLUMNS)


def _side_by_side(given: argparse.Namespace) -> list[Path]:
    """Run every epsilon and seed in a process of its own; return their results."""
    folder = Path(mkdtemp(prefix="spti-"))
    passed = ["--labels", *given.labels, "--features", given.features, "--by", given.by]
    for name in ("population", "size", "synthetic", "steps"):
        passed += [f"--{name}", str(getattr(given, name))]
    if given.small:
        passed.append("--small")
    runs = [(epsilon, seed) for epsilon in given.epsilon for seed in given.seeds]
    threads = str(max(1, (os.cpu_count() or 1) // len(runs)))
    started, files = [], []
    for epsilon, seed in runs:
        files.append(folder / f"spti-{epsilon:g}-{seed}.json")
        of_one = ["--epsilon", str(epsilon), "--seeds", str(seed), "--json", str(files[-1])]
        paths = [str(given.images)] if given.images else []
        command = [sys.executable, "-m", "benchmarks.spti", *paths, *passed, *of_one]
        started.append(
            subprocess.Popen(  # noqa: S603 - this file
                command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": threads}
            )
        )
    failed = [run for run, process in zip(runs, started, strict=True) if process.wait()]
    # What the others found is kept in the folder, to be merged.
    if failed:
        raise SystemExit(f"{failed} failed; what the others found is in {folder}")
    return files


if __name__ == "__main__":
    main()
