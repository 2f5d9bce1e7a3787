"""One arm of `benchmarks.kr` with one seed: its generator, and a student for each option."""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from benchmarks.kr_shared import Cache, Images, classifier, teacher_of
from benchmarks.measure import now
from benchmarks.private_teacher import ROOT, score

from tckr.classifiers.distillation import train_student
from tckr.classifiers.models import save as save_classifier
from tckr.classifiers.options import DistillationOptions, RegenerationOptions
from tckr.diffusion.options import AdaptationOptions, FinetuningOptions, SamplingOptions
from tckr.diffusion.snapshots import INDEX, Snapshots
from tckr.engine.device import best
from tckr.engine.seeds import derive
from tckr.options import Schedule
from tckr.synthesizers.choice import Choice, ChoiceOptions, TuningOptions, choose
from tckr.synthesizers.fitted import Fitted
from tckr.synthesizers.kr import KR, KRDrawingOptions
from tckr.synthesizers.private_set import SyntheticSet
from tckr.synthesizers.students import Examiner
from tckr.synthesizers.tckr import TCKR, TckrRecyclingOptions
from tckr.text.captioner import caption, captions_table
from tckr.text.captioner import load as load_captioner
from tckr.text.options import CaptionOptions

MODELS = ROOT / "data/06_models/foundation"
UNCHOSEN = ("regeneration", "mixture")  # options of which no short student chooses anything
WAIT = 60.0  # seconds for the generators of other processes


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
        self.durations: dict[str, float] = {}  # seconds of the rows of this call, by option

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
                if self.fits(option):
                    yield from map(self.keep, self.mixture())
            elif self.fits(option):
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

    def fits(self, option: str) -> bool:
        """Whether a row of this option will be done in time: as long as the first, where nothing is chosen, else as the longest."""
        like = [v for k, v in self.durations.items() if k == "none" or option not in UNCHOSEN]
        left = 60 * self.given.minutes - (time.monotonic() - self.started)
        return self.given.small or left > 1.2 * max(like, default=0.0)

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
        # standard_errors=0: the best is taken, also where it may be noise, so that the row says what the search finds.
        tuning = {
            "checkpoint": TuningOptions(trials=0),
            "tuning": TuningOptions(
                trials=self.given.trials, guidance_scale=(1.0, 2.5), initial_noise_scale=(1.0, 1.4),
                steps=(2, 3) if self.given.small else (6, 10, 20), standard_errors=0,
            ),
            "filter": TuningOptions(trials=max(2, self.given.trials // 2), filter_threshold=(0.0, 0.9), standard_errors=0, **fixed),
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
        self.durations[option] = seconds
        return {
            "arm": self.name, "option": option, "seed": self.seed, "teacher": self.taught, "accuracy": accuracy,
            "gap": self.taught - accuracy, "validation": validation, "images": len(drawn.labels), "minutes": seconds / 60,
        }  # fmt: skip

    def mixture(self) -> Iterator[dict[str, Any]]:
        """Take an equal share of every slice from the sets of all seeds' generators, once those are there."""
        clock, last = now(), [o for o in self.given.options if o != "mixture"][-1]
        left = 60 * self.given.minutes - (time.monotonic() - self.started)
        wait = min(WAIT, left - 1.2 * max(self.durations.values(), default=0.0))
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
