"""A folder is written whole or not at all."""

from pathlib import Path
from typing import Any

import pytest
from kedro.io.core import DatasetError, Version

from tckr.datasets.folder import FolderDataset


class Lines(FolderDataset[list[str]]):
    def read(self, path: Path) -> list[str]:
        return (path / "lines.txt").read_text().splitlines()

    def write(self, data: list[str], path: Path) -> None:
        (path / "lines.txt").write_text(data[0])
        (path / "lines.txt").write_text("\n".join(data))


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    broken: Any = ["half", 3]
    version = Version(None, "2026-01-01T00.00.00.000Z")
    dataset = Lines(filepath=str(tmp_path / "lines"), version=version)
    with pytest.raises(DatasetError):
        dataset.save(broken)

    assert not dataset.exists()
    assert [path.name for path in (tmp_path / "lines").iterdir()] in ([], [version.save])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_failed_write_keeps_what_was_there(tmp_path: Path) -> None:
    dataset = Lines(filepath=str(tmp_path / "lines"))
    dataset.save(["one"])
    broken: Any = ["half", 3]
    with pytest.raises(DatasetError):
        dataset.save(broken)
    assert dataset.load() == ["one"]
    assert [path.name for path in tmp_path.iterdir()] == ["lines"]
