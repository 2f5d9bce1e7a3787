"""Kedro's own types are Kedro's, but for how they write: a version is whole or absent."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from kedro.io import DatasetError
from kedro.io.core import Version
from kedro_datasets import json, pandas

from tckr.datasets.whole import CSVDataset, JSONDataset, ParquetDataset
from tckr.errors import UserError, user_error
from tiny import ROOT

TABLE = pd.DataFrame({"step": [1, 2], "loss": [0.5, 0.25]})
KINDS = [
    (JSONDataset, json.JSONDataset, {"accuracy": 93.8}, {}),
    (CSVDataset, pandas.CSVDataset, TABLE, {"save_args": {"index": False}}),
    (ParquetDataset, pandas.ParquetDataset, TABLE, {}),
]
versioned = pytest.mark.parametrize(("kind", "original", "value", "options"), KINDS)


def same(found: Any, expected: Any) -> bool:
    return found.equals(expected) if isinstance(expected, pd.DataFrame) else found == expected


@versioned
def test_it_writes_what_kedros_own_writes(
    kind: Any, original: Any, value: Any, options: dict[str, Any], tmp_path: Path
) -> None:
    ours = kind(filepath=str(tmp_path / "ours"), version=Version(None, "1"), **options)
    theirs = original(filepath=str(tmp_path / "theirs"), version=Version(None, "1"), **options)
    for dataset in (ours, theirs):
        dataset.save(value)
    assert (tmp_path / "ours/1/ours").read_bytes() == (tmp_path / "theirs/1/theirs").read_bytes()
    assert same(ours.load(), value)
    assert ours.preview() == theirs.preview()
    assert [path.name for path in (tmp_path / "ours/1").iterdir()] == ["ours"]
    with pytest.raises(DatasetError, match="must not exist"):
        kind(filepath=str(tmp_path / "ours"), version=Version(None, "1"), **options).save(value)


@versioned
def test_without_versions_a_failed_save_keeps_what_was_there(
    kind: Any,
    original: Any,
    value: Any,
    options: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dataset = kind(filepath=str(tmp_path / "entry"), **options)
    dataset.save(value)
    before = (tmp_path / "entry").read_bytes()

    def half(self: Any, data: Any) -> None:
        Path(self._get_save_path()).write_bytes(before[:3])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(original.save, "__wrapped__", half)
    with pytest.raises(DatasetError) as raised:
        dataset.save(value)
    assert isinstance(user_error(raised.value), UserError)
    assert (tmp_path / "entry").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["entry"]
    again = kind(filepath=str(tmp_path / "other"), version=Version(None, "1"), **options)
    with pytest.raises(DatasetError):
        again.save(value)
    assert not list((tmp_path / "other").glob("*"))  # no empty version either


def test_every_entry_of_the_catalog_is_written_whole() -> None:
    types = {
        line.split()[1]
        for file in (ROOT / "conf/base").glob("catalog*.yml")
        for line in file.read_text().splitlines()
        if line.strip().startswith("type: ")
    }
    assert "tckr.datasets.whole.JSONDataset" in types
    assert not [name for name in types if not name.startswith("tckr.") and name != "MemoryDataset"]
