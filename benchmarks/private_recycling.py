"""Private recycling on all of Fashion-MNIST: a private teacher, words, images, a student; what each epsilon buys.

    python -m benchmarks.private_recycling data/01_raw/fashion_mnist_full [--epsilon 1 10] [--seeds 0 1 2]
    python -m benchmarks.private_recycling PATH --adaptation-share 0.5      # the generator adapted under DP, too
    python -m benchmarks.private_recycling --small      # the shipped sample, minutes on a CPU

PATH is anything that ingestion reads: a folder of IDX files, a Parquet file. 55,000 members (5,000 validation images are left
unread), 60,000 synthetic images, 10,000 test images. One ledger an epsilon: words, teacher and, if asked for, adaptation,
by shares of mu^2. Nothing here is chosen by an accuracy.
"""

import argparse
import time
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

import torch
from benchmarks.measure import Report, machine
from benchmarks.private_teacher import ROOT, labelled, score
from torch import Tensor

from tckr.classifiers.distillation import train_student
from tckr.classifiers.options import AugmentationOptions, ClassifierOptions, DistillationOptions
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
COLUMNS = {
    "epsilon": "epsilon", "seed": "seed", "teacher": "teacher %", "ece": "teacher ECE", "on_the_fly": "student %",
    "stored": "stored label %", "hard": "hard labels %", "minutes": "minutes",
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Run every epsilon and seed, print the table and save it."""
    given = _parse(arguments)
    report = Report(given.json)
    report.set(**machine(best()), arguments={k: str(v) for k, v in vars(given).items()})
    work = Recycling(given)
    report.set(members=len(work.members[0]), test=len(work.test[0]), shared_seconds=work.seconds)
    for epsilon in given.epsilon:
        for seed in given.seeds:
            report.add("rows", work.run(epsilon, seed))
    report.show(f"{given.synthetic:,} images, {len(work.members[0]):,} members", "rows", COLUMNS)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("images", type=Path, nargs="?", help="the private set and its test split")
    parser.add_argument("--epsilon", type=float, nargs="+", default=[1.0, 10.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--synthetic", type=int, help="images drawn [60000]")
    parser.add_argument("--words-share", type=float, default=0.05, help="of mu^2")
    parser.add_argument("--adaptation-share", type=float, default=0.0, help="of mu^2; 0: none")
    parser.add_argument("--adaptation-steps", type=int, default=80)
    parser.add_argument(
        "--independent", action="store_true", help="slots one by one instead of a tree of pairs"
    )
    parser.add_argument("--steps", type=int, help="of the student [4000]")
    parser.add_argument("--widths", type=int, nargs="+", help="of the student [64 128 256]")
    parser.add_argument("--labels", nargs="+", default=["on_the_fly", "stored", "hard"])
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--json", type=Path, help="where to save the result")
    given = parser.parse_args(arguments)
    given.images = given.images or SAMPLE
    given.synthetic = given.synthetic or (80 if given.small else 60_000)
    given.steps = given.steps or (20 if given.small else 4000)
    given.widths = tuple(given.widths or ((8, 16) if given.small else (64, 128, 256)))
    return given


class Recycling:
    """What all epsilons share: the images, what the captioner says of them, the public tree, the generator."""

    def __init__(self, given: argparse.Namespace) -> None:
        start = time.perf_counter()
        self.given, self.device = given, best()
        sizes: dict[str, Any] = (
            {"members": 240, "validation": 30, "holdout": 30, "test": 200}
            if given.small
            else {"validation": 5000}
        )
        with chdir(ROOT):
            table, _ = ingest(given.images, IngestionOptions(size=28, **sizes), 0)
        self.names = sorted(table["class_name"].unique())
        # Nothing is audited here, so that what would be the holdout is trained on as well.
        self.members = labelled(of_split(table, "members", "holdout"), self.names)
        self.test = labelled(of_split(table, "test"), self.names)
        self.sampling = SamplingOptions(
            steps=2 if given.small else 6,
            guidance_scale=1.0,
            batch_size=1000 if self.device == "cuda" else 40,
        )
        self.captioner = load_captioner(str(MODELS / "captioner"), self.device)
        self.captions = self._caption(self.members[0])
        self.vocabulary: Vocabulary = SHIPPED if given.independent else self._public_tree()
        self.seconds = time.perf_counter() - start

    def run(self, epsilon: float, seed: int) -> dict[str, Any]:
        """One ledger: words, teacher, images, students."""
        start, given, n, noise = time.perf_counter(), self.given, len(self.members[0]), Noise()
        teaching = PrivateTeacherOptions(steps=20 if given.small else 100)
        steps = 2 if given.small else given.adaptation_steps
        schedule = PrivateSchedule(
            steps=steps, sampling_rate=0.15, learning_rate=1e-3, max_grad_norm=1e-3, passes=2, averaging=0.93,
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
        images, labels = self._images(words, adapting, ledger, noise, seed)
        found = {
            source: self._student(images, labels, teacher, source, seed) for source in given.labels
        }
        minutes = (time.perf_counter() - start) / 60
        row = {
            "epsilon": epsilon,
            "spent": ledger.epsilon(spent=True),
            "seed": seed,
            "teacher": accuracy,
            "ece": ece,
        }
        return {**row, **found, "minutes": minutes}

    def _images(
        self,
        words: WordHistogram,
        adapting: DPAdaptationOptions,
        ledger: Ledger,
        noise: Noise,
        seed: int,
    ) -> tuple[Tensor, Tensor]:
        plan = draw_prompts(words, self.names, self.given.synthetic, derive(seed, "prompts"))
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
        self, images: Tensor, labels: Tensor, teacher: Any, source: str, seed: int
    ) -> float:
        recipe = ClassifierOptions(
            widths=self.given.widths, stride=1, batch_size=40 if self.given.small else 512, learning_rate=0.05,
            label_smoothing=0.0, augmentation=AugmentationOptions(shift=2),
        )  # fmt: skip
        student = train_student(
            images, labels, recipe, derive(seed, "student"), len(self.names),
            distillation=DistillationOptions(labels=source), steps=self.given.steps, teacher=teacher.to(self.device),
            device=self.device,
        )  # fmt: skip
        return score(student, self.test)[0]

    def _caption(self, images: Tensor) -> list[str]:
        options = CaptionOptions(
            captioner=str(MODELS / "captioner"),
            max_new_tokens=44,
            batch_size=4000 if self.device == "cuda" else 100,
        )
        return caption(self.captioner, images, options)

    def _draw(self, generator: Any, prompts: list[str], seed: int) -> Tensor:
        channels, height, width = self.members[0].shape[1:]
        return sample(generator, prompts, (height, width), channels, self.sampling, seed)

    def _public_tree(self) -> Vocabulary:
        """Which words go together in what the generator itself draws from random words: public, so it costs nothing."""
        uniform = WordHistogram(torch.ones(1, SHIPPED.size).long().numpy(), 0.0, SHIPPED)
        prompts = draw_prompts(uniform, ["shape"], 40 if self.given.small else 4000, 0)[
            "prompt"
        ].tolist()
        drawn = self._draw(load(str(MODELS / "generator"), self.device), prompts, 0)
        return SHIPPED.tree(self._caption(drawn))


if __name__ == "__main__":
    main()
