"""What each way of using a generator well is worth on all of Fashion-MNIST: kr and tckr, one option after another, and the leak.

    python -m benchmarks.kr data/01_raw/fashion_mnist_full --cache build/kr --json kr.json     # every seed and arm a process
    python -m benchmarks.kr PATH --cache build/kr ...            # again: goes on with the options that there was no time for
    python -m benchmarks.kr PATH --cache build/kr --audit 0 --json leak.json     # then, of what lies in the cache: AUC_MIA
    python -m benchmarks.kr PATH --cache build/kr --arms tckr --seeds 0 --alone --json part.json
    python -m benchmarks.kr --small      # the shipped sample, a minute or two on a CPU

PATH is anything that ingestion reads. 27,500 members, 27,500 holdout, 5,000 validation, 10,000 test images; one split for all
seeds. The rows of an arm add up: the generator's last snapshot (1 x, `patience` 3); the snapshot that short students choose; the
sampling that they tune; the teacher's filter, its threshold tuned too; fresh images every epoch from a pool of 8 x. Everything is
chosen by validation images; the test images are looked at once a row. `minutes` are those of a row's own work on a card that
all its processes share; on a machine with several cards they take turns. A process begins nothing that would not fit into `--minutes`; rows that are done are in its file.
`mixture` draws a third of the last set from the generators of each seed, which learned the same members. The audit attacks the
first and the last row of an arm with shadows that repeat teacher and student on the images held fixed (scope `distillation`).
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from benchmarks.measure import Report, machine, now
from benchmarks.private_teacher import ROOT, labelled, score

from tckr.attacks.registry import ATTACKS
from tckr.audit.audit import audit
from tckr.audit.membership import membership_matrix
from tckr.audit.options import AuditOptions, ReleaseThreat
from tckr.audit.shadow_config import ShadowConfig, StudentConfig
from tckr.audit.shadow_models import run_shadows
from tckr.audit.signals import model_scores
from tckr.classifiers.distillation import train_student, train_teacher
from tckr.classifiers.models import load as load_classifier
from tckr.classifiers.models import save as save_classifier
from tckr.classifiers.options import (
    AugmentationOptions,
    ClassifierOptions,
    DistillationOptions,
    RegenerationOptions,
)
from tckr.diffusion.options import AdaptationOptions, FinetuningOptions, SamplingOptions
from tckr.diffusion.snapshots import INDEX, Snapshots
from tckr.engine.device import best
from tckr.engine.seeds import derive
from tckr.engine.shards import visible_devices
from tckr.images.ingest import ingest
from tckr.images.options import IngestionOptions
from tckr.images.tables import of_split
from tckr.options import Schedule
from tckr.synthesizers.choice import Choice, ChoiceOptions, TuningOptions, choose
from tckr.synthesizers.fitted import Fitted
from tckr.synthesizers.kr import KR, KRDrawingOptions
from tckr.synthesizers.private_set import PrivateSet, SyntheticSet
from tckr.synthesizers.students import Examiner
from tckr.synthesizers.tckr import TCKR, TckrRecyclingOptions
from tckr.text.captioner import caption, captions_table
from tckr.text.captioner import load as load_captioner
from tckr.text.options import CaptionOptions

MODELS = ROOT / "data/06_models/foundation"
SAMPLE = ROOT / "data/01_raw/fashion_mnist"
SPLIT_SEED = 0  # one split for all seeds
# The prompts of kr, and the beginnings of tckr's: IDX files hold numbers alone.
FASHION_MNIST = [
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
]
ARMS = ("kr", "tckr")
OPTIONS = ("none", "checkpoint", "tuning", "filter", "regeneration", "mixture")
COLUMNS = {
    "arm": "arm", "option": "with also", "seeds": "seeds", "teacher": "teacher %", "accuracy": "student %", "sd": "sd",
    "gap": "below the teacher", "gap_low": "from", "gap_high": "to", "minutes": "minutes",
}  # fmt: skip
LEAK = {
    "arm": "arm", "option": "with also", "seed": "seed", "accuracy": "accuracy %", "AUC_MIA": "AUC_MIA %", "AUC_MIA_low": "from",
    "AUC_MIA_high": "to", "AOP": "AOP", "shadows": "shadows", "minutes": "minutes",
}  # fmt: skip
WAIT = 60.0  # seconds for the generators of other processes


def main(arguments: Sequence[str] | None = None) -> None:
    """Run every seed and arm, beside each other or in this process; print the table and save it."""
    given = _parse(arguments)
    started = time.monotonic()
    report = Report(given.json)
    report.set(**machine(best()), arguments={k: str(v) for k, v in vars(given).items()})
    if given.audit is not None:
        for seed in given.audit:
            for row in leak(given, seed):
                report.add("leak", row)
        report.show("the leak, scope distillation", "leak", LEAK)
        return
    if given.alone:
        for seed in given.seeds:
            for arm in given.arms:
                for row in Study(given, arm, seed, started).rows():
                    report.add("rows", row)
    else:
        report.set(rows=_beside_each_other(given))
    report.set(summary=summary(report.result.get("rows", [])))
    report.set(seconds=time.monotonic() - started)
    report.show("one option after another", "summary", COLUMNS)


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean over the seeds of each arm and option, with the 95 % interval of the mean gap (Student's t)."""
    from scipy import stats

    found = []
    table = pd.DataFrame(rows, columns=None if rows else ["arm", "option"])
    for (arm, option), own in table.groupby(["arm", "option"], sort=False):
        gaps, n = own["teacher"] - own["accuracy"], len(own)
        reach = float(stats.t.ppf(0.975, n - 1) * gaps.std() / n**0.5) if n > 1 else None
        found.append(
            {
                "arm": arm,
                "option": option,
                "seeds": n,
                "teacher": float(own["teacher"].mean()),
                "accuracy": float(own["accuracy"].mean()),
                "sd": float(own["accuracy"].std()) if n > 1 else None,
                "gap": float(gaps.mean()),
                "gap_low": None if reach is None else float(gaps.mean()) - reach,
                "gap_high": None if reach is None else float(gaps.mean()) + reach,
                "minutes": float(own["minutes"].mean()),
            }
        )
    order = {name: place for place, name in enumerate(OPTIONS)}
    return sorted(found, key=lambda row: (row["arm"], order[row["option"]]))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("images", type=Path, nargs="?", help="the private set and its test split")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", type=int, nargs="+", help="[0 1 2]")
    parser.add_argument("--options", nargs="+", choices=OPTIONS[1:], default=list(OPTIONS[1:]))
    parser.add_argument("--generator-steps", type=int, help="of 256 images [2000]")
    parser.add_argument("--snapshots", type=int, help="[4]")
    parser.add_argument(
        "--rate", type=float, default=3e-4, help="learning rate of kr's fine-tuning"
    )
    parser.add_argument(
        "--trials", type=int, help="of the sampling, and half as many of the filter [6]"
    )
    parser.add_argument("--patience", type=float, default=3.0, help="of the students")
    parser.add_argument(
        "--share", type=float, default=0.1, help="of a first student, of the final one"
    )
    parser.add_argument("--slices", type=int, help="of the pool of fresh images [8]")
    parser.add_argument(
        "--scratch", action="store_true", help="kr's denoiser begins with random weights"
    )
    parser.add_argument(
        "--audit",
        type=int,
        nargs="+",
        help="seeds whose sets in the cache are attacked, instead of a run",
    )
    parser.add_argument("--shadows", type=int, default=8)
    parser.add_argument(
        "--stack", type=int, default=8, help="networks that a card trains side by side"
    )
    parser.add_argument("--minutes", type=float, default=9.0, help="of this call")
    parser.add_argument(
        "--compile", action="store_true", help="compile teachers and final students"
    )
    parser.add_argument("--cache", type=Path, help="folder of all processes; holds private images")
    parser.add_argument("--alone", action="store_true", help="one after another in this process")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--json", type=Path, help="where to save the result")
    given = parser.parse_args(arguments)
    small = given.small
    given.seeds = given.seeds or ([0] if small else [0, 1, 2])
    given.generator_steps = given.generator_steps or (4 if small else 2000)
    given.snapshots = given.snapshots or (2 if small else 4)
    given.trials = 6 if given.trials is None and not small else given.trials or 2
    given.slices = given.slices or (2 if small else 8)
    given.alone = given.alone or small
    if not (given.alone and given.audit is None) and given.cache is None:
        parser.error("several processes need --cache")
    return given


def _beside_each_other(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Run every seed and arm as a process of its own on the one card, and return the rows of all."""
    given.cache.mkdir(parents=True, exist_ok=True)
    parts, running = [], []
    own = ["--alone", "--generator-steps", given.generator_steps, "--snapshots", given.snapshots, "--trials", given.trials,
           "--slices", given.slices, "--rate", given.rate, "--patience", given.patience, "--share", given.share, "--minutes",
           given.minutes, "--cache", given.cache, "--options", *given.options]  # fmt: skip
    own += ["--compile"] * given.compile + ["--scratch"] * given.scratch
    cards = visible_devices()
    for seed in given.seeds:
        for arm in given.arms:
            part = given.cache / f"part-{arm}-{seed}.json"
            part.unlink(missing_ok=True)
            command = [sys.executable, "-m", "benchmarks.kr", *([given.images] if given.images else []), *own,
                       "--arms", arm, "--seeds", seed, "--json", part]  # fmt: skip
            threads = max(1, (os.cpu_count() or 1) // (len(given.seeds) * len(given.arms)))
            environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TCKR_PROGRESS": "0"}
            if len(cards) > 1:
                environment["CUDA_VISIBLE_DEVICES"] = cards[len(parts) % len(cards)]
            parts.append(part)
            running.append(subprocess.Popen([str(word) for word in command], env=environment))  # noqa: S603
    failed = [process.args for process in running if process.wait() != 0]
    for command in failed:
        print("failed:", " ".join(map(str, command)), file=sys.stderr)  # noqa: T201
    read = [json.loads(part.read_text()) for part in parts if part.is_file()]
    return [row for part in read for row in part.get("rows", [])]


class Cache:
    """What several processes need, made by the first that asks while the others wait; without a folder, in memory."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        if folder:
            folder.mkdir(parents=True, exist_ok=True)

    def of(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return tensors and plain values by name."""
        if self.folder is None:
            return make()
        path = self.folder / f"{name}.pt"
        with (self.folder / f"{name}.lock").open("w") as lock:
            flock(lock, LOCK_EX)
            if not path.is_file():
                self.put(name, make())
        return self.get(name)

    def put(self, name: str, values: Mapping[str, Any]) -> None:
        """Save, whole or not at all."""
        if self.folder:
            torch.save(dict(values), self.folder / f"{name}.part")
            (self.folder / f"{name}.part").rename(self.folder / f"{name}.pt")

    def get(self, name: str) -> dict[str, Any]:
        """Read what is there."""
        assert self.folder is not None
        found: dict[str, Any] = torch.load(self.folder / f"{name}.pt", weights_only=True)
        return found

    def wait(self, name: str, seconds: float) -> bool:
        """Whether something is there within some time."""
        end = time.monotonic() + seconds
        while self.folder and not (self.folder / f"{name}.pt").is_file() and time.monotonic() < end:
            time.sleep(1)
        return self.folder is not None and (self.folder / f"{name}.pt").is_file()


class Images:
    """The private set, read once for all processes."""

    def __init__(self, given: argparse.Namespace, cache: Cache) -> None:
        self.given = given
        about = f"{given.images}, small {given.small}"
        found = cache.of(f"images-{derive(0, about)}", self._read)
        self.names: list[str] = found["names"]
        self.split = {s: (found[s], found[f"{s}_labels"]) for s in ("members", "holdout", "validation", "test")}  # fmt: skip
        self.members = PrivateSet(*self.split["members"], self.names)

    def _read(self) -> dict[str, Any]:
        sizes: dict[str, Any] = {"validation": 5000}
        if self.given.small:
            sizes = {"members": 120, "holdout": 120, "validation": 40, "test": 100}
        else:
            source = self.given.images
            if source is not None and source.is_dir() and [*source.glob("*idx1-ubyte*")]:
                sizes["class_names"] = FASHION_MNIST
        with chdir(ROOT):
            table, _ = ingest(
                self.given.images or SAMPLE, IngestionOptions(size=28, **sizes), SPLIT_SEED
            )
        names = [str(name) for name in sorted(table["class_name"].unique())]
        found: dict[str, Any] = {"names": names}
        for split in ("members", "holdout", "validation", "test"):
            found[split], found[f"{split}_labels"] = labelled(of_split(table, split), names)
        return found


class Study:
    """One arm with one seed: a teacher, a generator, and a student for each option."""

    def __init__(self, given: argparse.Namespace, arm: str, seed: int, started: float) -> None:
        self.given, self.name, self.seed, self.started = given, arm, seed, started
        self.device, self.cache = best(), Cache(given.cache)
        self.images = Images(given, self.cache)
        self.recipe = classifier(given)
        self.steps = self.recipe.steps(len(self.images.members.labels))
        self.distillation = DistillationOptions(labels="on_the_fly", patience=given.patience)
        self.teacher = teacher_of(
            given, seed, self.cache, self.images, self.recipe, self.device
        ).to(self.device)
        self.taught = score(self.teacher, self.images.split["test"])[0]
        self.durations: list[float] = []

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the row of each option; those that an earlier call had done are read, and the next one goes on from them."""
        clock, done = now(), {row["option"]: row for row in self.kept_rows()}
        arm = self.arm()
        fitted = self.fitted(arm)
        if "none" in done:
            yield done["none"]
        else:
            yield self.keep(self.row("none", arm, fitted, clock, None))
        for option in self.given.options:
            if option in done:
                arm = self.with_option(option, arm, done[option]["choice"])
                yield done[option]
            elif option == "mixture":
                if self.fits():
                    yield from map(self.keep, self.mixture())
            elif self.fits():
                clock = now()
                choice, students = self.chosen(option, arm, fitted)
                arm = self.with_option(option, arm, choice)
                yield self.keep(self.row(option, arm, fitted, clock, choice, students))
            else:
                return

    def fitted(self, arm: Any) -> Fitted:
        """Return the trained generator: from the cache, if an earlier call left it there."""
        facts, folder = self.images.members.facts, None
        entry = "snapshots" if self.name == "kr" else "adapter"
        if self.given.cache:
            folder = self.given.cache / f"generator-{self.name}-{self.seed}-{self.mark}"
        known: dict[str, Any] = {} if self.name == "kr" else {"captions": self.captions()}
        if folder and (folder / INDEX).is_file():
            return Fitted(arm, facts, {**known, entry: Snapshots.load(folder)}, self.device)
        fitted = arm.fit(self.images.members, derive(self.seed, self.name), self.device, known)
        if folder:
            folder.mkdir(exist_ok=True)
            fitted.artefacts[entry].save(folder)
        return fitted

    @property
    def mark(self) -> int:
        """What tells one benchmark from another in the cache."""
        aside = {
            "json",
            "minutes",
            "alone",
            "arms",
            "seeds",
            "options",
            "audit",
            "shadows",
            "stack",
            "cache",
        }
        return derive(
            0, repr(sorted((k, str(v)) for k, v in vars(self.given).items() if k not in aside))
        )

    def kept_rows(self) -> list[dict[str, Any]]:
        """Return the rows that earlier calls have done."""
        file = self._rows_file()
        return json.loads(file.read_text()) if file and file.is_file() else []

    def keep(self, row: dict[str, Any]) -> dict[str, Any]:
        """Let a later call find a row."""
        if file := self._rows_file():
            whole = [*self.kept_rows(), row]
            file.with_suffix(".part").write_text(json.dumps(whole))
            file.with_suffix(".part").rename(file)
        return row

    def _rows_file(self) -> Path | None:
        name = f"rows-{self.name}-{self.seed}-{self.mark}.json"
        return self.given.cache / name if self.given.cache else None

    def fits(self) -> bool:
        """Whether another row like the longest of this call will be done in time."""
        left = 60 * self.given.minutes - (time.monotonic() - self.started)
        return self.given.small or left > 1.2 * max(self.durations, default=0.0)

    def with_option(self, option: str, arm: Any, choice: dict[str, Any]) -> Any:
        """Return the arm with one option more, as it was chosen."""
        if option == "regeneration":
            recycling = arm.knowledge_recycling.model_copy(update={"slices": self.given.slices})
            return arm.model_copy(update={"knowledge_recycling": recycling})
        return arm.with_choice(Choice.model_validate(choice)) if choice else arm

    def chosen(
        self, option: str, arm: Any, fitted: Fitted
    ) -> tuple[dict[str, Any], pd.DataFrame | None]:
        """Choose what the option leaves open, by validation images; return it, and a row for each short student."""
        if option == "regeneration":
            return {}, None
        fixed = {"guidance_scale": (1.0, 1.0), "initial_noise_scale": (1.0, 1.0), "steps": (6,)}
        tuning = {
            "checkpoint": TuningOptions(trials=0),
            "tuning": TuningOptions(
                trials=self.given.trials, guidance_scale=(1.0, 2.5), initial_noise_scale=(1.0, 1.4),
                steps=(2, 3) if self.given.small else (6, 10, 20),
            ),
            "filter": TuningOptions(trials=max(2, self.given.trials // 2), filter_threshold=(0.0, 0.9), **fixed),
        }[option]  # fmt: skip
        options = ChoiceOptions(
            snapshots="halving" if option == "checkpoint" else "last",
            share=self.given.share,
            tuning=tuning,
        )
        examiner = Examiner(
            fitted.artefacts, fitted.facts, self.teacher, self.recipe, self.steps, self.distillation,
            self.images.split["validation"], derive(self.seed, "choice"), self.device,
        )  # fmt: skip
        choice, students = choose(arm, options, examiner)
        if option != "checkpoint":
            choice = choice.model_copy(update={"snapshot": None})  # it stays
        return choice.model_dump(mode="json"), students

    def row(
        self,
        option: str,
        arm: Any,
        fitted: Fitted,
        clock: float,
        choice: dict[str, Any] | None,
        students: pd.DataFrame | None = None,
    ) -> dict[str, Any]:
        """Draw a set, train a student on it, and measure it."""
        judged = Fitted(arm, fitted.facts, fitted.artefacts, self.device, self.teacher)
        count = arm.knowledge_recycling.n_images(fitted.facts.n_members)
        start = now()
        drawn = judged.sample(count, derive(self.seed, "sampling"))
        drawing = now() - start
        row = self.measured(option, drawn, arm.knowledge_recycling.slices, clock)
        spent = (
            {}
            if students is None
            else {"students": len(students), "choosing_seconds": float(students["seconds"].sum())}
        )
        curve = None if students is None else json.loads(students.to_json(orient="records"))
        return {**row, "drawing_seconds": drawing, "choice": choice or {}, **spent, "curve": curve}

    def measured(
        self, option: str, drawn: SyntheticSet, slices: int, clock: float
    ) -> dict[str, Any]:
        """Train a student on a set, and keep both for the audit."""
        regenerate = RegenerationOptions(slices=slices) if slices > 1 else None
        distillation = self.distillation.model_copy(update={"regenerate": regenerate})
        student = train_student(
            *drawn, self.recipe, derive(self.seed, "student"), len(self.images.names), distillation=distillation,
            steps=self.steps, teacher=self.teacher, device=self.device,
        ).to(self.device)  # fmt: skip
        accuracy, validation = (
            score(student, self.images.split[s])[0] for s in ("test", "validation")
        )
        if self.given.cache:
            where = self.given.cache / f"student-{self.name}-{self.seed}-{option}"
            save_classifier(student.cpu(), where)
            self.cache.put(
                f"set-{self.name}-{self.seed}-{option}",
                {
                    "images": drawn.images,
                    "labels": drawn.labels,
                    "slices": slices,
                    "accuracy": accuracy,
                },
            )
        seconds = now() - clock
        self.durations.append(seconds)
        return {
            "arm": self.name, "option": option, "seed": self.seed, "teacher": self.taught, "accuracy": accuracy,
            "gap": self.taught - accuracy, "validation": validation, "images": len(drawn.labels), "minutes": seconds / 60,
        }  # fmt: skip

    def mixture(self) -> Iterator[dict[str, Any]]:
        """Take an equal share of every slice from the sets of all seeds' generators, once those are there."""
        clock, last = now(), [o for o in self.given.options if o != "mixture"][-1]
        left = 60 * self.given.minutes - (time.monotonic() - self.started)
        wait = min(WAIT, left - 1.2 * max(self.durations, default=0.0))
        others = [f"set-{self.name}-{seed}-{last}" for seed in self.given_seeds()]
        if len(others) < 2 or not all(self.cache.wait(name, wait) for name in others):
            return
        sets = [self.cache.get(name) for name in others]
        if len({len(one["labels"]) for one in sets}) > 1:
            return
        # Every set is balanced in each of its prefixes of a slice; image i comes from generator i mod n.
        source = torch.arange(len(sets[0]["labels"])) % len(sets)
        images = torch.stack([one["images"] for one in sets])[source, torch.arange(len(source))]
        labels = torch.stack([one["labels"] for one in sets])[source, torch.arange(len(source))]
        row = self.measured("mixture", SyntheticSet(images, labels), int(sets[0]["slices"]), clock)
        yield {**row, "generators": len(sets)}

    def given_seeds(self) -> list[int]:
        """The seeds of the whole run: those whose parts lie in the cache."""
        if not self.given.cache:
            return []
        found = self.given.cache.glob(f"part-{self.name}-*.json")
        return sorted(int(path.stem.rpartition("-")[2]) for path in found)

    def arm(self) -> Any:
        """Return the arm with its plainest options."""
        given, gpu = self.given, self.device == "cuda"
        batch = 1000 if gpu else 40
        schedule = Schedule(
            steps=given.generator_steps, batch_size=16 if given.small else 256, learning_rate=given.rate if self.name == "kr" else 2e-3,
            warmup=0.05, averaging=0.9 if given.small else 0.997,
        )  # fmt: skip
        generator = str(MODELS / "generator")
        sampling = SamplingOptions(
            steps=2 if given.small else 6, guidance_scale=1.0, batch_size=batch
        )
        if self.name == "kr":
            return KR(
                generator_adaptation=FinetuningOptions(
                    generator=generator, start="scratch" if given.scratch else "pretrained", schedule=schedule, flip=True,
                    unconditional=0.05, snapshots=given.snapshots,
                ),
                generator_choice=ChoiceOptions(),
                knowledge_recycling=KRDrawingOptions(sampling=sampling),
            )  # fmt: skip
        return TCKR(
            captioning=self.captioning(),
            generator_adaptation=AdaptationOptions(
                generator=generator,
                schedule=schedule,
                flip=True,
                rank=16,
                class_only=0.05,
                unconditional=0.05,
                snapshots=given.snapshots,
            ),
            knowledge_recycling=TckrRecyclingOptions(sampling=sampling),
        )

    def captioning(self) -> CaptionOptions:
        """Return the captioner's options."""
        gpu, tokens = self.device == "cuda", 8 if self.given.small else 44
        return CaptionOptions(
            captioner=str(MODELS / "captioner"),
            max_new_tokens=tokens,
            batch_size=4000 if gpu else 100,
        )

    def captions(self) -> pd.DataFrame:
        """Return what the captioner says of the members, asked once for all processes."""

        def make() -> dict[str, Any]:
            options = self.captioning()
            captioner = load_captioner(options.captioner, self.device, options.dtype)
            return {"captions": caption(captioner, self.images.members.images, options)}

        said = self.cache.of("captions", make)["captions"]
        members = self.images.members
        names = [members.class_names[label] for label in members.labels.tolist()]
        return captions_table([str(i) for i in range(len(names))], names, said)


def classifier(given: argparse.Namespace) -> ClassifierOptions:
    """Return the recipe of teacher and students: that of `conf/gpu`."""
    if given.small:
        return ClassifierOptions(widths=(8, 16), epochs=2, batch_size=32)
    return ClassifierOptions(
        widths=(64, 128, 256), depth=1, stride=1, epochs=24, learning_rate=0.05, batch_size=512,
        compile=best() == "cuda" and given.compile, augmentation=AugmentationOptions(),
    )  # fmt: skip


def teacher_of(
    given: argparse.Namespace,
    seed: int,
    cache: Cache,
    images: Images,
    recipe: ClassifierOptions,
    device: str,
) -> Any:
    """Return the teacher of a seed, which both arms share; the first process trains it."""
    members, made = images.members, []

    def make() -> dict[str, Any]:
        made.append(
            train_teacher(
                members.images,
                members.labels,
                recipe,
                derive(seed, "teacher"),
                len(images.names),
                device=device,
            )
        )
        if given.cache:
            save_classifier(made[0], given.cache / f"teacher-{seed}")
        return {"done": True}

    cache.of(f"teacher-{seed}", make)
    return made[0] if made else load_classifier(given.cache / f"teacher-{seed}")


def leak(given: argparse.Namespace, seed: int) -> Iterator[dict[str, Any]]:
    """Attack the teacher and, of each arm, the students of the first and the last row that lie in the cache."""
    clock, cache, device = now(), Cache(given.cache), best()
    images, recipe = Images(given, cache), classifier(given)
    members, holdout = images.split["members"], images.split["holdout"]
    pixels, labels = (torch.cat(pair) for pair in zip(members, holdout, strict=True))
    inside = np.arange(len(labels)) < len(members[1])
    chosen = []
    for arm in given.arms:
        rows = [o for o in OPTIONS if (given.cache / f"set-{arm}-{seed}-{o}.pt").is_file()]
        chosen += [(arm, option) for option in dict.fromkeys([*rows[:1], *rows[-1:]])]
    steps = recipe.steps(len(members[1]))
    membership = membership_matrix(len(labels), given.shadows, 0.5, derive(seed, "membership"))
    options = AuditOptions(n_shadows=given.shadows, release=ReleaseThreat(encoder="none"))
    targets = {"teacher": load_classifier(given.cache / f"teacher-{seed}")}
    accuracies = {"teacher": score(targets["teacher"], images.split["test"])[0]}
    found: dict[str, Any] = {}
    # Sets in slices are read slice by slice, which is a way of training of its own.
    for slices in sorted({int(cache.get(f"set-{a}-{seed}-{o}")["slices"]) for a, o in chosen}):
        pools, students = {}, {}
        for arm, option in chosen:
            kept = cache.get(f"set-{arm}-{seed}-{option}")
            if int(kept["slices"]) == slices:
                name = f"{arm}.{option}"
                pools[name] = SyntheticSet(kept["images"], kept["labels"])
                students[name] = StudentConfig(name, "on_the_fly")
                targets[name] = load_classifier(given.cache / f"student-{arm}-{seed}-{option}")
                accuracies[name] = kept["accuracy"]
        regenerate = RegenerationOptions(slices=slices) if slices > 1 else None
        config = ShadowConfig(
            pixels, labels, len(images.names), steps, recipe,
            DistillationOptions(labels="on_the_fly", patience=given.patience, regenerate=regenerate),
            derive(seed, "shadows"), students=students, pools=pools, device=device, stack=given.stack,
        )  # fmt: skip
        cards = visible_devices()
        found |= run_shadows(config, membership, devices=cards if len(cards) > 1 else ())
    minutes = (now() - clock) / 60
    for name, model in targets.items():
        scores = model_scores(model.to(device), pixels, labels, 1, recipe.augmentation)
        result = audit(
            scores, found[name], membership, inside, accuracy_percent=accuracies[name], options=options,
            scope="classifier" if name == "teacher" else "distillation",
        )  # fmt: skip
        figures = result.attacks[options.attack].in_percent()
        arm, _, option = name.partition(".")
        yield {
            "arm": arm, "option": option, "seed": seed, "accuracy": accuracies[name], **figures, "shadows": given.shadows,
            "attack": ATTACKS[options.attack].title, "minutes": minutes,
        }  # fmt: skip


if __name__ == "__main__":
    main()
