"""Folders are written whole or not at all, and every version is kept."""

import os
from pathlib import Path
from typing import Any

import pytest
from kedro.io.core import DatasetError, Version

from tckr.datasets.folder import FolderDataset


class Lines(FolderDataset[list[str]]):
    def read(self, folder: Path) -> list[str]:
        return (folder / "lines.txt").read_text().splitlines()

    def write(self, data: list[str], folder: Path) -> None:
        (folder / "lines.txt").write_text(data[0])
        (folder / "lines.txt").write_text("\n".join(data))


def dataset(path: Path, save: str | None = None, load: str | None = None) -> Lines:
    return Lines(filepath=str(path / "lines"), version=Version(load, save))


def test_versions_stand_side_by_side(tmp_path: Path) -> None:
    dataset(tmp_path, "2026-01-01T00.00.00.000Z").save(["old"])
    dataset(tmp_path, "2026-01-02T00.00.00.000Z").save(["new"])

    assert dataset(tmp_path).load() == ["new"]
    assert dataset(tmp_path, load="2026-01-01T00.00.00.000Z").load() == ["old"]
    assert dataset(tmp_path).exists()


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    broken: Any = ["half", 3]
    with pytest.raises(DatasetError):
        dataset(tmp_path, "2026-01-01T00.00.00.000Z").save(broken)

    assert not dataset(tmp_path).exists()
    assert not [
        path for path in tmp_path.rglob("*") if path.name != "lines" and "2026" not in path.name
    ]


def test_without_versions_the_folder_is_replaced(tmp_path: Path) -> None:
    plain = Lines(filepath=str(tmp_path / "plain"))
    plain.save(["one"])
    plain.save(["two"])

    assert plain.load() == ["two"]
    assert [path.name for path in tmp_path.iterdir()] == ["plain"]


def test_others_may_read_what_the_umask_lets_them(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        Lines(filepath=str(tmp_path / "plain")).save(["one"])
    finally:
        os.umask(before)

    assert (tmp_path / "plain").stat().st_mode & 0o777 == 0o755
