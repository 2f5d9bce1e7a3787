"""Releases with a real recycled set and a real student, small."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from release.test_release import planned
from tckr.classifiers.models import save
from tckr.classifiers.names import named
from tckr.classifiers.resnet import ResNet
from tckr.datasets.image_table import ImageTableDataset
from tckr.dp import Ledger
from tckr.images.tables import with_class_names
from tckr.images.tensors import to_png
from tckr.release.bundle import Part, Release, write
from tckr.release.certificate import Certificate
from tckr.release.publication import Publication
from tckr.release.signing import Signer

STATED = Publication(
    title="Bags | boots",
    creator="Clinic of Boots",
    creator_type="Nonprofit",
    licence="CC-BY-4.0",
    url="https://example.org/boots",
    set_id="clinic/boots",
    region="Bavaria",
    sector="Healthcare",
    intended_use="To tell bags from boots.",
)
NAMES = ["bag", "boot"]
PATTERN = np.arange(64, dtype=np.uint8).reshape(1, 1, 8, 8) * 4


def recycled_set() -> pd.DataFrame:
    """Return three grey images of two classes with soft labels."""
    table = pd.DataFrame(
        {
            "image": to_png(
                torch.from_numpy(np.concatenate([PATTERN, PATTERN // 2, 255 - PATTERN]))
            ),
            "split": "train",
            "label": [0, 0, 1],
            "class_name": ["bag", "bag", "boot"],
            "soft_label": [[0.75, 0.25], [1.0, 0.0], [0.5, 0.5]],
            "canary": [False, True, False],
        }
    )
    return with_class_names(table, NAMES)


def write_set(path: Path) -> None:
    """Write it as a run does."""
    card = {"title": "Recycled set", "tags": ["synthetic"]}
    ImageTableDataset(filepath=str(path), card=card).save(recycled_set())


def write_student(path: Path) -> None:
    """Write a student with seeded weights."""
    torch.manual_seed(0)
    save(named(ResNet(1, 2, (4, 8), 1), NAMES).eval(), path)


def released(
    folder: Path,
    publication: Publication = STATED,
    ledger: Ledger | None = None,
    signer: Signer | None = None,
) -> Certificate:
    """Write a release into an empty folder, and return its certificate."""
    plan: Release = planned(ledger=ledger)
    real = {"recycled_set": write_set, "student": write_student}
    parts = [Part(one.place, one.what, real.get(one.place, one.write)) for one in plan.parts]
    write(replace(plan, parts=tuple(parts), publication=publication, signer=signer), folder)
    return Certificate.model_validate_json((folder / "certificate.json").read_text())
