"""Checkpoints keep one job's state, whatever else lies beside it."""

import os
import pickle
from pathlib import Path

import pytest

from tckr.engine.checkpoint import Checkpoints, fingerprint


def test_removing_spares_what_is_not_a_checkpoint_of_this_job(tmp_path: Path) -> None:
    mine, others = Checkpoints(tmp_path / fingerprint("seed 0")), Checkpoints(tmp_path / "seed 1")
    for states in (mine, others):
        states.of("adapter").save({}, {"done": 1})
    mine.remove()
    assert not mine.folder.exists()
    assert others.of("adapter").load({}) == {"done": 1}
    (others.folder / "notes.txt").write_text("precious")
    (others.folder / "deeper").mkdir()
    others.remove()
    assert sorted(path.name for path in others.folder.iterdir()) == ["deeper", "notes.txt"]


def test_removing_nothing_is_no_error(tmp_path: Path) -> None:
    Checkpoints(tmp_path / "missing").remove()
    assert list(tmp_path.iterdir()) == []


def test_a_failed_save_keeps_the_previous_one_and_nothing_else(tmp_path: Path) -> None:
    checkpoint = Checkpoints(tmp_path).of("work")
    checkpoint.save({}, {"done": 1})
    with pytest.raises((pickle.PicklingError, AttributeError)):
        checkpoint.save({}, {"done": lambda: None})
    assert checkpoint.load({}) == {"done": 1}
    assert list(tmp_path.iterdir()) == [checkpoint.path]


def test_a_save_survives_another_process_removing_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes do the same work; the one that finishes first removes what the other is writing."""
    checkpoints = Checkpoints(tmp_path / "job")
    original, removals = os.replace, []

    def replace(source: Path, target: Path) -> None:
        if not removals:
            removals.append(1)
            checkpoints.remove()
        original(source, target)

    monkeypatch.setattr("tckr.engine.checkpoint.os.replace", replace)
    checkpoints.of("part").save({}, {"done": 2})
    assert removals
    assert checkpoints.of("part").load({}) == {"done": 2}


def test_fingerprints_differ_with_every_part() -> None:
    assert len({fingerprint(), fingerprint(1), fingerprint("1"), fingerprint(1, None)}) == 4
