"""Soft labels, latents and short students: the same to the bit in this process, in two, and on a Ray cluster."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import miniatures
from tckr.classifiers import labelling
from tckr.classifiers.distillation import train_teacher
from tckr.classifiers.labelling import labels_of_encoded, soft_labels_of, unfinished_labels
from tckr.classifiers.options import AugmentationOptions, ClassifierOptions, DistillationOptions
from tckr.datasets.image_table import ImageTableDataset
from tckr.diffusion import latents
from tckr.diffusion.latents import stream_latents
from tckr.diffusion.options import FinetuningOptions, SamplingOptions
from tckr.diffusion.pipeline import load
from tckr.engine import EngineOptions, ShardError, use_engine
from tckr.engine.checkpoint import Checkpoints
from tckr.images.tensors import to_png
from tckr.options import Schedule
from tckr.synthesizers import students
from tckr.synthesizers.choice import ChoiceOptions, TuningOptions, choose
from tckr.synthesizers.fitted import Fitted
from tckr.synthesizers.kr import KR, KRDrawingOptions
from tckr.synthesizers.private_set import PrivateSet
from tckr.synthesizers.students import Examiner

COUNT = 1100  # images: two shards of labels, and two of latents
RECIPE = ClassifierOptions(widths=(8,), batch_size=8)
SMALLEST = {"shard_pixels": 1}
TIMED = ["seconds"]


class Work:
    """Everything that is to be done, on images and models of its own."""

    def __init__(self, folder: Path) -> None:
        random = torch.Generator().manual_seed(0)
        self.pixels = torch.randint(0, 256, (COUNT, 1, 16, 16), generator=random).to(torch.uint8)
        self.labels = torch.arange(COUNT) % 3
        torch.manual_seed(0)
        miniatures.save_generator(folder / "generator")
        self.table = self._saved(folder / "table")
        small = slice(0, 24)
        self.private = PrivateSet(self.pixels[small], self.labels[small], ("bag", "boot", "coat"))
        self.teacher = train_teacher(
            self.private.images, self.private.labels, RECIPE, 0, 3, steps=3
        )
        self.arm = KR(
            generator_adaptation=FinetuningOptions(
                generator=str(folder / "generator"),
                schedule=Schedule(steps=6, batch_size=4, learning_rate=1e-2),
                snapshots=3,
            ),
            generator_choice=ChoiceOptions(
                share=0.5, tuning=TuningOptions(trials=2, at_once=2, filter_threshold=(0.0, 0.2))
            ),
            knowledge_recycling=KRDrawingOptions(
                sampling=SamplingOptions(steps=2, guidance_scale=1.0, batch_size=8)
            ),
        )
        self.fitted = self.arm.fit(self.private, 3)

    def _saved(self, folder: Path) -> pd.DataFrame:
        dataset = ImageTableDataset(filepath=str(folder))
        names = ["bag", "boot", "coat"]
        dataset.save(
            pd.DataFrame(
                {
                    "image": to_png(self.pixels),
                    "image_id": [str(row) for row in range(COUNT)],
                    "split": "train",
                    "label": self.labels.numpy(),
                    "class_name": [names[label] for label in self.labels],
                }
            )
        )
        return dataset.load()

    def do(self, folder: Path) -> dict[str, Any]:
        """Return soft labels, latents, the choice and its students."""
        keep = unfinished_labels(self.teacher, self.table["image_id"].tolist(), str(folder))
        images = self.table["image"].array
        pipeline = load(self.arm.generator_adaptation.generator)
        found: dict[str, Any] = {
            "labels": soft_labels_of(self.teacher, images, keep),
            "views": labels_of_encoded(self.teacher, images, 2, AugmentationOptions(shift=2)),
            "latents": torch.cat(list(stream_latents(pipeline, self.pixels, mirror=True))),
        }
        if keep is not None:
            keep.remove()
        scores = Checkpoints(folder / "scores")
        choice, rows = choose(self.arm, self.arm.generator_choice, self._examiner(scores))
        scores.remove()
        return {**found, "choice": choice, "students": rows.drop(columns=TIMED)}

    def _examiner(self, scores: Checkpoints) -> Examiner:
        fitted: Fitted = self.fitted
        few = (self.private.images[:9], self.private.labels[:9])
        return Examiner(
            fitted.artefacts, fitted.facts, self.teacher, RECIPE, 3, DistillationOptions(), few, 3, scores=scores
        )  # fmt: skip


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    return Work(tmp_path_factory.mktemp("work"))


@pytest.fixture(scope="module")
def here(work: Work, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one process makes of it, in one shard."""
    return work.do(tmp_path_factory.mktemp("here"))


def two_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let two processes of this machine do what two GPUs would."""
    for module in (labelling, latents, students):
        monkeypatch.setattr(module, "resolve_workers", lambda: (2, []))


@pytest.fixture(params=["processes", "ray"])
def stages(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], set[str]]]:
    """Each engine in turn; the function returns the stages whose shards had a worker each."""
    options, log = EngineOptions(**SMALLEST), tmp_path / "shards.jsonl"
    if request.param == "ray":
        cluster = request.getfixturevalue("cluster")
        options = EngineOptions(
            kind="ray", address=cluster.address, storage=str(tmp_path / "storage"), **SMALLEST
        )
    else:
        two_workers(monkeypatch)
    with ExitStack() as stack:
        stack.enter_context(use_engine(options, log))
        yield lambda: set(pd.read_json(log, lines=True)["stage"])
    assert not (tmp_path / "storage").exists() or not list((tmp_path / "storage").iterdir())


@pytest.mark.slow
def test_it_is_the_same_to_the_bit_whoever_does_it(
    work: Work, here: dict[str, Any], stages: Callable[[], set[str]], tmp_path: Path
) -> None:
    folder = tmp_path / "work"
    found = work.do(folder)
    for name in ("labels", "views", "latents"):
        assert torch.equal(found[name], here[name]), name
    assert found["choice"] == here["choice"]
    pd.testing.assert_frame_equal(found["students"], here["students"])
    assert stages() == {"soft labels", "latents", "short students", "trials"}
    assert not list(folder.glob("*"))  # nothing is left of it


@pytest.mark.slow
def test_an_error_names_the_shard(
    work: Work, stages: Callable[[], set[str]], tmp_path: Path
) -> None:
    broken = torch.nn.Linear(3, 3)  # of images it makes nothing
    with pytest.raises(ShardError, match=r"shard range\(\d+, \d+\) failed: RuntimeError"):
        soft_labels_of(broken, work.table["image"].array)
