"""A full disk is one line that names it, whoever was writing; it leaves nothing behind."""

import errno
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors import SafetensorError

from tckr.cli import explain
from tckr.disk import explained, is_full, writing
from tckr.errors import UserError

FULL = Path("/dev/full")  # a file that takes nothing: "No space left on device"
needs_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


def by_text() -> None:
    with FULL.open("w") as file:
        json.dump({"a": 1}, file)


def by_torch() -> None:
    with FULL.open("wb", buffering=0) as file:
        torch.save({"a": torch.zeros(10_000)}, file)


def by_arrow() -> None:
    with FULL.open("wb", buffering=0) as file:
        pd.DataFrame({"a": range(10_000)}).to_parquet(file)


def by_safetensors() -> None:
    # What `save_file` says on a full disk; it renames, and must not be let near /dev/full.
    raise SafetensorError(
        "Error while serializing: I/O error: No space left on device (os error 28)"
    )


@needs_full
@pytest.mark.parametrize("write", [by_text, by_torch, by_arrow, by_safetensors])
def test_every_library_is_understood(write: Callable[[], None], tmp_path: Path) -> None:
    said = rf"The disk .* is full: .*{tmp_path}/adapter"
    with pytest.raises(UserError, match=said) as raised, writing(tmp_path / "adapter"):
        write()
    assert "resume=last" in raised.value.remedy


def test_a_full_database_is_understood() -> None:
    database = sqlite3.connect(":memory:")
    database.execute("pragma max_page_count = 1")
    with pytest.raises(sqlite3.Error) as raised:
        database.execute("create table runs (name text)")
    assert "mlflow.db" in str(explained(raised.value))


def test_what_arose_elsewhere_is_one_line_too(tmp_path: Path) -> None:
    quota = OSError(errno.EDQUOT, "Disk quota exceeded", str(tmp_path / "work.pickle"))
    wrapped = RuntimeError("shard 3 failed")
    wrapped.__cause__ = quota
    assert str(tmp_path / "work.pickle") in str(explain(wrapped))


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    denied = PermissionError(errno.EACCES, "Permission denied")
    assert not is_full(denied)
    assert explained(denied) is None
    with pytest.raises(PermissionError), writing(tmp_path):
        raise denied
