"""Private recycling on all of Fashion-MNIST: a private teacher, words, images, students; what each epsilon buys.

    python -m benchmarks.private_recycling data/01_raw/fashion_mnist_full [--epsilon 1 10] [--seeds 0 1 2]
    python -m benchmarks.private_recycling PATH --student resnet scattering --labels on_the_fly stored hard --views 1 4
    python -m benchmarks.private_recycling PATH --adaptation-share 0.5      # the generator adapted under DP, too
    python -m benchmarks.private_recycling --merge 1_0.json 1_1.json ...    # the results of several processes
    python -m benchmarks.private_recycling --small      # the shipped sample, minutes on a CPU: does it run; images are poor

PATH is anything that ingestion reads: a folder of IDX files, a Parquet file. 55,000 members (5,000 validation images are left
unread), 60,000 synthetic images, 10,000 test images. One ledger an epsilon: words, teacher and, if asked for, adaptation,
by shares of mu^2. Nothing here is chosen by an accuracy. Processes of one `--shared-cache` prepare images and captions once.
`agreement` is of the student's classes with the private teacher's, on synthetic images that the student has not seen.
"""

import argparse
import json
import time
from collections.abc import Sequence
from contextlib import chdir
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from benchmarks.measure import Report, machine, now
from benchmarks.private_teacher import ROOT, labelled, score
from torch import Tensor

from tckr.classifiers.distillation import train_student
from tckr.classifiers.options import AugmentationOptions, ClassifierOptions, DistillationOptions
from tckr.classifiers.predict import logits
from tckr.classifiers.private_options import PrivateTeacherOptions
from tckr.classifiers.private_teacher import teacher_plan, train_private_teacher
from tckr.diffusion.dp_lora import adapt_privately, adaptation_plan
from tckr.diffusion.options import SamplingOptions
from tckr.diffusion.pipeline import load
from tckr.diffusion.private_options import DPAdaptationOptions
from tckr.diffusion.sampling import sample
from tckr.dp import Ledger, Noise, delta_default
from tckr.engine.device import best
from tckr.engine.seeds import derive
from tckr.images.ingest import ingest
from tckr.images.options import IngestionOptions
from tckr.images.tables import of_split
from tckr.options import PrivateSchedule
from tckr.text.captioner import caption
from tckr.text.captioner import load as load_captioner
from tckr.text.options import CaptionOptions
from tckr.text.vocabulary import SHIPPED, Vocabulary
from tckr.text.words import WordHistogram, count_words, draw_prompts, words_plan

MODELS = ROOT / "data/06_models/foundation"
SAMPLE = ROOT / "data/01_raw/fashion_mnist"
HELD_OUT = (
    1000  # synthetic images at most, a sixth of them at least, on which agreement is measured
)
COLUMNS = {
    "epsilon": "epsilon", "student": "student", "labels": "labels", "views": "views", "seeds": "seeds", "teacher": "teacher %",
    "mean": "mean %", "best": "best %", "agreement": "agreement %", "seconds": "seconds",
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Run every epsilon and seed, print the table and save it."""
    given = _parse(arguments)
    report = Report(given.json)
    if given.merge:
        report.merge(given.merge)
    else:
        report.set(**machine(best()), arguments={k: str(v) for k, v in vars(given).items()})
        work = Recycling(given)
        report.set(
            members=len(work.members[0]), test=len(work.test[0]), shared_seconds=work.seconds
        )
        for epsilon in given.epsilon:
            for seed in given.seeds:
                work.run(epsilon, seed, report)
    report.set(summary=summary(report.result["rows"]))
    report.show(f"{report.result['members']:,} members", "summary", COLUMNS)


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and best over the seeds, of each epsilon, student and kind of label."""
    keys = ["epsilon", "student", "labels", "views"]
    grouped = pd.DataFrame(rows).groupby(keys, sort=False, dropna=False)
    found = grouped.agg(
        seeds=("accuracy", "size"), teacher=("teacher", "mean"), mean=("accuracy", "mean"), best=("accuracy", "max"),
        agreement=("agreement", "mean"), seconds=("seconds", "mean"),
    )  # fmt: skip
    listed: list[dict[str, Any]] = json.loads(found.reset_index().to_json(orient="records"))
    return listed


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("images", type=Path, nargs="?", help="the private set and its test split")
    parser.add_argument("--epsilon", type=float, nargs="+", default=[1.0, 10.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--synthetic", type=int, help="images drawn [60000]")
    parser.add_argument("--words-share", type=float, default=0.05, help="of mu^2")
    parser.add_argument("--adaptation-share", type=float, default=0.0, help="of mu^2; 0: none")
    parser.add_argument("--adaptation-steps", type=int, help="[80; with --small 2, a trial]")
    parser.add_argument("--adaptation-rate", type=float, default=1e-3, help="learning rate")
    parser.add_argument("--sampling-steps", type=int, help="[6; with --small 2, a trial]")
    parser.add_argument(
        "--independent", action="store_true", help="slots one by one instead of a tree of pairs"
    )
    parser.add_argument("--steps", type=int, help="of the student [4000]")
    parser.add_argument("--widths", type=int, nargs="+", help="of the student [64 128 256]")
    parser.add_argument("--student", nargs="+", default=["resnet", "scattering"])
    parser.add_argument("--labels", nargs="+", default=["on_the_fly", "stored", "hard"])
    parser.add_argument("--views", type=int, nargs="+", help="of stored labels [1 4]")
    parser.add_argument(
        "--shared-cache", type=Path, help="folder, for several processes; holds private images"
    )
    parser.add_argument("--merge", type=Path, nargs="+", help="results to join, instead of a run")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--json", type=Path, help="where to save the result")
    given = parser.parse_args(arguments)
    given.images = given.images or SAMPLE
    given.views = given.views or [1, 4]
    given.synthetic = given.synthetic or (80 if given.small else 60_000)
    given.adaptation_steps = given.adaptation_steps or (2 if given.small else 80)
    given.sampling_steps = given.sampling_steps or (2 if given.small else 6)
    given.steps = given.steps or (20 if given.small else 4000)
    given.widths = tuple(given.widths or ((8, 16) if given.small else (64, 128, 256)))
    return given


class Recycling:
    """What all epsilons share: the images, what the captioner says of them, the public tree, the generator."""

    def __init__(self, given: argparse.Namespace) -> None:
        start = time.perf_counter()
        self.given, self.device = given, best()
        self.sampling = SamplingOptions(
            steps=given.sampling_steps,
            guidance_scale=1.0,
            batch_size=1000 if self.device == "cuda" else 40,
        )
        prepared = self._prepared()
        self.names = prepared["names"]
        self.members = prepared["members"], prepared["member_labels"]
        self.test = prepared["test"], prepared["test_labels"]
        self.captions: list[str] = prepared["captions"]
        self.vocabulary: Vocabulary = SHIPPED
        if not given.independent:
            # Which words go together in what the generator draws from random words: public, so it costs nothing.
            self.vocabulary = SHIPPED.tree(prepared["public_captions"])
        self.seconds = time.perf_counter() - start

    def _prepared(self) -> dict[str, Any]:
        """Images and captions, from the shared cache where another process has made them."""
        folder = self.given.shared_cache
        if folder is None:
            return self._prepare()
        folder.mkdir(parents=True, exist_ok=True)
        about = (
            f"{self.given.images}, small {self.given.small}, independent {self.given.independent}"
        )
        path = folder / f"prepared-{derive(0, about)}.pt"
        with (folder / "lock").open("w") as lock:
            flock(lock, LOCK_EX)  # the others wait for the first
            if not path.is_file():
                torch.save(self._prepare(), f"{path}.part")
                Path(f"{path}.part").rename(path)
        found: dict[str, Any] = torch.load(path, weights_only=True)
        return found

    def _prepare(self) -> dict[str, Any]:
        given = self.given
        sizes: dict[str, Any] = (
            {"members": 240, "validation": 30, "holdout": 30, "test": 200}
            if given.small
            else {"validation": 5000}
        )
        with chdir(ROOT):
            table, _ = ingest(given.images, IngestionOptions(size=28, **sizes), 0)
        names = [str(name) for name in sorted(table["class_name"].unique())]
        # Nothing is audited here, so that what would be the holdout is trained on as well.
        members, member_labels = labelled(of_split(table, "members", "holdout"), names)
        test, test_labels = labelled(of_split(table, "test"), names)
        self.captioner = load_captioner(str(MODELS / "captioner"), self.device)
        public = [] if given.independent else self._caption(self._public_images(members.shape[1:]))
        return {
            "names": names, "members": members, "member_labels": member_labels, "test": test, "test_labels": test_labels,
            "captions": self._caption(members), "public_captions": public,
        }  # fmt: skip

    def run(self, epsilon: float, seed: int, report: Report) -> None:
        """One ledger: words, teacher, images, and a row for each student."""
        clock, given, n, noise = Clock(), self.given, len(self.members[0]), Noise()
        teaching = PrivateTeacherOptions(steps=20 if given.small else 100)
        schedule = PrivateSchedule(
            steps=given.adaptation_steps, sampling_rate=0.15, learning_rate=given.adaptation_rate, max_grad_norm=1e-3, passes=2, averaging=0.93,
            micro_batch=8 if given.small else 256,
        )  # fmt: skip
        adapting = DPAdaptationOptions(generator=str(MODELS / "generator"), schedule=schedule)
        ledger = Ledger(epsilon, delta_default(n), n, "benchmark")
        plans = [words_plan(self.vocabulary, given.words_share)]
        if given.adaptation_share:
            plans.append(adaptation_plan(adapting, given.adaptation_share))
        ledger.plan(
            [*plans, teacher_plan(teaching, 1 - given.words_share - given.adaptation_share)]
        )
        words = count_words(
            self.captions, self.members[1].tolist(), len(self.names), self.vocabulary,
            ledger.spend("words", noise), noise,
        )  # fmt: skip
        teacher = train_private_teacher(
            *self.members,
            len(self.names),
            teaching,
            ledger.spend("teacher", noise),
            noise,
            self.device,
            count=n,
        )
        accuracy, ece = score(teacher, self.test)
        clock.lap("words_and_teacher")
        images, labels = self._images(words, adapting, ledger, noise, seed)
        held_out = images[given.synthetic :]
        images, labels = images[: given.synthetic], labels[: given.synthetic]
        clock.lap("images")
        shared = {
            "epsilon": epsilon, "spent": ledger.epsilon(spent=True), "seed": seed, "teacher": accuracy, "ece": ece,
            **clock.laps,
        }  # fmt: skip
        taught = logits(teacher, held_out).argmax(1)
        for architecture in given.student:
            for source in given.labels:
                for views in given.views if source == "stored" else [1]:
                    student = self._student(
                        images, labels, teacher, architecture, source, views, seed
                    )
                    agreement = (
                        (logits(student.to(self.device), held_out).argmax(1) == taught)
                        .double()
                        .mean()
                    )
                    row = {
                        "student": architecture, "labels": source, "views": views if source == "stored" else None,
                        "accuracy": score(student, self.test)[0], "agreement": 100 * float(agreement),
                        "seconds": clock.lap("student"),
                    }  # fmt: skip
                    report.add("rows", {**shared, **row})

    def _images(
        self,
        words: WordHistogram,
        adapting: DPAdaptationOptions,
        ledger: Ledger,
        noise: Noise,
        seed: int,
    ) -> tuple[Tensor, Tensor]:
        count = self.given.synthetic + min(HELD_OUT, -(-self.given.synthetic // 5))
        plan = draw_prompts(words, self.names, count, derive(seed, "prompts"))
        plan = plan.sample(frac=1, random_state=derive(seed, "held out"))  # prompts come by class
        generator = load(adapting.generator, self.device)
        if "generator adaptation" in ledger:
            classes = [self.names[label] for label in self.members[1].tolist()]
            prompts = [f"{name}: {text}" for name, text in zip(classes, self.captions, strict=True)]
            entry = ledger.spend("generator adaptation", noise)
            adapter = adapt_privately(
                generator, self.members[0], prompts, classes, adapting, entry, noise,
                derive(seed, "adaptation"), count=len(prompts),
            )  # fmt: skip
            generator = adapter.apply(generator)
        drawn = self._draw(generator, plan["prompt"].tolist(), derive(seed, "sampling"))
        return drawn, torch.from_numpy(plan["label"].to_numpy(copy=True))

    def _student(
        self,
        images: Tensor,
        labels: Tensor,
        teacher: Any,
        architecture: str,
        source: str,
        views: int,
        seed: int,
    ) -> Any:
        recipe = ClassifierOptions(
            architecture=architecture, widths=self.given.widths, stride=1, batch_size=40 if self.given.small else 512,
            learning_rate=0.05, label_smoothing=0.0, augmentation=AugmentationOptions(shift=2),
        )  # fmt: skip
        return train_student(
            images, labels, recipe, derive(seed, "student"), len(self.names),
            distillation=DistillationOptions(labels=source, views=views), steps=self.given.steps,
            teacher=teacher.to(self.device), device=self.device,
        )  # fmt: skip

    def _caption(self, images: Tensor) -> list[str]:
        options = CaptionOptions(
            captioner=str(MODELS / "captioner"),
            max_new_tokens=44,
            batch_size=4000 if self.device == "cuda" else 100,
        )
        return caption(self.captioner, images, options)

    def _draw(self, generator: Any, prompts: list[str], seed: int) -> Tensor:
        return self._sample(generator, prompts, self.members[0].shape[1:], seed)

    def _public_images(self, shape: Sequence[int]) -> Tensor:
        uniform = WordHistogram(torch.ones(1, SHIPPED.size).long().numpy(), 0.0, SHIPPED)
        count = 40 if self.given.small else 4000
        prompts = draw_prompts(uniform, ["shape"], count, 0)["prompt"].tolist()
        return self._sample(load(str(MODELS / "generator"), self.device), prompts, shape, 0)

    def _sample(
        self, generator: Any, prompts: list[str], shape: Sequence[int], seed: int
    ) -> Tensor:
        channels, height, width = shape
        return sample(generator, prompts, (height, width), channels, self.sampling, seed)


class Clock:
    """Seconds of one phase after the other, the GPU's work included."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = now()

    def lap(self, name: str) -> float:
        """End a phase, and return its seconds."""
        self.laps[f"{name}_seconds"] = seconds = now() - self._last
        self._last = now()
        return seconds


if __name__ == "__main__":
    main()
