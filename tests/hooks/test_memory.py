"""What cannot be held is refused before it is drawn."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
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
from tckr.synthesizers.recycling import RecyclingOptions

ENCODER = str(Path(__file__).parents[2] / "data/06_models/foundation/clip")

MEMBERS = pd.DataFrame({"image": to_png(torch.zeros(2, 3, 32, 64, dtype=torch.uint8))})


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A scratch folder, 64 GiB of memory and 5 TiB of disk."""
    monkeypatch.setenv("TCKR_SCRATCH", str(tmp_path))
    there(monkeypatch, memory=64 << 30, disk=5 << 40)
    return tmp_path


def there(monkeypatch: pytest.MonkeyPatch, *, memory: int, disk: int) -> None:
    monkeypatch.setattr("tckr.engine.memory.free_memory", lambda: memory)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=disk))


def test_pixels_beyond_memory_need_disk_twice(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = (64 << 30) // 1201  # 6,144 bytes each: 327 GiB, and rows that just fit
    check_memory(count, MEMBERS, "a.b")
    there(monkeypatch, memory=64 << 30, disk=600 << 30)
    wanted = rf"57,218,548 .* of 32 x 64 pixels take 654\.8 GiB.* 600\.0 GiB of disk in {scratch}\. .*lower a\.b or ingest"
    with pytest.raises(UserError, match=wanted):
        check_memory(count, MEMBERS, "a.b")


def test_rows_beyond_memory_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"take 1,200\.0 GiB to train on, and there are 64\.0 GiB of memory"
    ):
        check_memory(1 << 30, MEMBERS, "a.b")
    many = MEMBERS.assign(label=[0, 1])
    with pytest.raises(UserError, match=r"take 1,224\.0 GiB to train on"):
        check_memory(1 << 30, many, "a.b")


def test_what_fits_in_memory_needs_no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    there(monkeypatch, memory=1 << 30, disk=0)
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
            "params:seed": MemoryDataset(0),
            "params:privacy_audit": MemoryDataset(
                AuditOptions(n_shadows=8, release=ReleaseThreat(encoder=ENCODER))
            ),
            "images": MemoryDataset(metadata={"private_set": True}),
        }
    )
    checks = Checks()
    checks.before_pipeline_run(wired, catalog)
    there(monkeypatch, memory=4 << 20, disk=1 << 20)
    images = pd.concat([MEMBERS] * 5).assign(
        split="members", label=0, class_name="bag"
    )  # 100 x 10 images are 6 MB
    checks.after_dataset_saved("captions", images)
    with pytest.raises(UserError, match=f"1,000 synthetic.*lower {key} or"):
        checks.after_dataset_saved("images", images)
    checks.after_dataset_loaded("images", images)  # once is enough


def test_shadows_are_checked_once_the_images_are_counted() -> None:
    wired = register_pipelines()["privacy_audit"]
    audit = AuditOptions(n_shadows=8, release=ReleaseThreat(encoder=ENCODER))
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
