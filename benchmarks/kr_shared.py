"""What the processes of `benchmarks.kr` share: the private set, each seed's teacher, and the cache that holds them."""

import argparse
import time
from collections.abc import Callable, Mapping
from contextlib import chdir
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any

import torch
from benchmarks.private_teacher import ROOT, labelled

from tckr.classifiers.distillation import train_teacher
from tckr.classifiers.models import load as load_classifier
from tckr.classifiers.models import save as save_classifier
from tckr.classifiers.options import AugmentationOptions, ClassifierOptions
from tckr.engine.device import best
from tckr.engine.seeds import derive
from tckr.images.ingest import ingest
from tckr.images.options import IngestionOptions
from tckr.images.tables import of_split
from tckr.synthesizers.private_set import PrivateSet

SAMPLE = ROOT / "data/01_raw/fashion_mnist"
SPLIT_SEED = 0  # one split for all seeds
# The prompts of kr, and the beginnings of tckr's: IDX files hold numbers alone.
FASHION_MNIST = [
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
]
ARMS = ("kr", "tckr")
OPTIONS = ("none", "checkpoint", "tuning", "filter", "regeneration", "mixture")


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
