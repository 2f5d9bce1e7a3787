"""Rows are the same wherever they lie, and other processes map them instead of receiving copies."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tckr.engine import map_shards, mapped, rows
from tckr.engine.exchange import receive, send
from tckr.engine.rows import Shared, SharedTensors, take

IMAGES = torch.randint(0, 256, (2500, 3, 4, 5), generator=torch.Generator().manual_seed(0)).byte()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TCKR_SCRATCH", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("share", [mapped.SHARE, 0.0])
def test_rows_are_taken_in_order_in_memory_and_on_disk(
    share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapped, "SHARE", share)
    order = torch.randperm(2500, generator=torch.Generator().manual_seed(1)).tolist()
    chosen = [*order, 7, 7]
    assert torch.equal(take(IMAGES, chosen), IMAGES[chosen])
    assert take(IMAGES, []).shape == (0, 3, 4, 5)


def sums(numbers: list[int], shared: tuple[Tensor, Tensor]) -> tuple[int, int, int, int]:
    images, labels = shared
    files = [line for line in Path("/proc/self/maps").read_text().splitlines() if "deleted" in line]
    return int(images[numbers].sum()), int(labels[numbers].sum()), len(files), os.getpid()


@pytest.mark.skipif(not rows.OPEN_FILES.is_dir(), reason="needs /proc")
def test_other_processes_map_the_tensor_and_nothing_is_left(folder: Path) -> None:
    labels = torch.arange(2500)
    shared = (Shared(IMAGES.permute(0, 1, 3, 2)), Shared(labels))
    assert len(pickle.dumps(shared)) < 1000
    shards = [[0, 2499], [1024, 3]]
    found = map_shards(sums, shards, 2, shared=shared)
    for numbers, (pixels, classes, files, process) in zip(shards, found, strict=True):
        assert (pixels, classes) == (int(IMAGES[numbers].sum()), sum(numbers))
        assert files >= 2
        assert process != os.getpid()
    assert not folder.exists() or list(folder.iterdir()) == []


def test_unpickled_it_is_the_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = Shared(IMAGES)
    assert torch.equal(pickle.loads(pickle.dumps(shared)), IMAGES)
    assert pickle.loads(pickle.dumps(Shared(IMAGES[:0]))).shape == (0, 3, 4, 5)
    monkeypatch.setattr(rows, "OPEN_FILES", Path("/nowhere"))
    assert torch.equal(pickle.loads(pickle.dumps(shared)), IMAGES)


def test_named_tensors_travel_as_one_file(tmp_path: Path) -> None:
    some = torch.Generator().manual_seed(2)
    tensors = {
        "half": torch.randn(3, 5, generator=some).half(),
        "flags": torch.tensor([True, False, True]),
        "none": torch.empty(0, 2),
        "number": torch.tensor(7),
        "transposed": torch.randn(2000, 3, generator=some).T,
    }
    sent = SharedTensors(tensors)
    way = tmp_path / "way"
    way.mkdir()
    for found in (pickle.loads(pickle.dumps(sent)), receive(send(way, [sent, sent]))[1]):
        assert type(found) is dict
        assert list(found) == list(tensors)
        for name, tensor in tensors.items():
            assert found[name].dtype == tensor.dtype
            assert torch.equal(found[name], tensor), name
    assert sorted(file.name for file in way.iterdir()) == ["tensor-0", "work.pickle"]
    assert pickle.loads(pickle.dumps(SharedTensors())) == {}
