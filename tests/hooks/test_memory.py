"""What cannot be held is refused before it is drawn."""

from types import SimpleNamespace

import pandas as pd
import psutil
import pytest
import torch
from kedro.io import DataCatalog, MemoryDataset

from tckr.audit.options import AuditOptions, ReleaseThreat
from tckr.errors import UserError
from tckr.hooks.checks import Checks
from tckr.hooks.memory import check_memory
from tckr.images.tensors import to_png
from tckr.pipeline_registry import register_pipelines
from tckr.pipelines.cardinality_sweep.options import SweepOptions
from tckr.synthesizers.base import RecyclingOptions

MEMBERS = pd.DataFrame({"image": to_png(torch.zeros(2, 3, 32, 64, dtype=torch.uint8))})


def test_more_than_fits_is_refused_with_its_size_and_the_parameter() -> None:
    wanted = r"1,073,741,824 synthetic images of 32 x 64 pixels take 6,144\.0 GiB.*lower a\.b or ingestion\.size"
    with pytest.raises(UserError, match=wanted):
        check_memory(1 << 30, MEMBERS, "a.b")


def test_what_fits_is_drawn() -> None:
    check_memory(1000, MEMBERS, "a.b")


@pytest.mark.parametrize(
    ("pipeline", "key"),
    [
        ("knowledge_recycling", "knowledge_recycling.cardinality"),
        ("cardinality_sweep", "cardinality_sweep.cardinalities"),
    ],
)
def test_memory_is_checked_once_the_members_are_counted(
    pipeline: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wired = register_pipelines()[pipeline]
    catalog = DataCatalog(
        {name: MemoryDataset({}) for name in wired.datasets()}
        | {
            "params:knowledge_recycling": MemoryDataset(RecyclingOptions(cardinality=100)),
            "params:cardinality_sweep": MemoryDataset(SweepOptions(cardinalities=(1, 100))),
            "images": MemoryDataset(metadata={"private_set": True}),
        }
    )
    checks = Checks()
    checks.before_pipeline_run(wired, catalog)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1 << 20))
    images = pd.concat([MEMBERS] * 5).assign(split="members")  # 100 x 10 images are 6 MB
    checks.after_dataset_saved("captions", images)
    with pytest.raises(UserError, match=f"1,000 synthetic.*lower {key} or"):
        checks.after_dataset_saved("images", images)
    checks.after_dataset_loaded("images", images)  # once is enough


def test_shadows_are_checked_once_the_images_are_counted() -> None:
    wired = register_pipelines()["privacy_audit"]
    audit = AuditOptions(n_shadows=8, release=ReleaseThreat(encoder="clip"))
    catalog = DataCatalog(
        {name: MemoryDataset({}) for name in wired.datasets()}
        | {
            "params:privacy_audit": MemoryDataset(audit),
            "images": MemoryDataset(metadata={"private_set": True}),
        }
    )
    checks = Checks()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tckr.hooks.checks.check_model", lambda *model: None)
        checks.before_pipeline_run(wired, catalog)
    few = pd.DataFrame({"split": ["members", "holdout", "test"] * 3})
    with pytest.raises(UserError, match=r"privacy_audit\.n_shadows = 8 is more than the 6"):
        checks.after_dataset_saved("images", few)
