"""Whose process has ended is told from processes that got its number later."""

import subprocess
import sys

import psutil
import pytest

from tckr.process import Process


def test_a_process_that_was_killed_has_ended() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    since = psutil.Process(child.pid).create_time()
    known = Process.this().model_copy(update={"number": child.pid, "since": since})
    assert not known.has_ended
    child.kill()
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        pass
    assert known.has_ended  # before its parent takes notice
    child.wait()
    assert known.has_ended


def test_of_another_machine_nothing_is_known() -> None:
    elsewhere = Process(host="another machine", number=2**22 - 1, since=0.0)
    assert not elsewhere.is_here
    assert not elsewhere.has_ended


@pytest.mark.parametrize("other", [{"host": "another machine"}, {"namespace": 1}])
def test_a_number_of_another_container_is_not_looked_up_here(other: dict[str, object]) -> None:
    """Containers may share a host's name and a data folder, and number their processes apart."""
    elsewhere = Process.this().model_copy(update={"since": 0.0, **other})

    assert not elsewhere.is_here
    assert not elsewhere.has_ended
    assert Process.named(elsewhere.name) == elsewhere


def test_a_number_that_was_given_away_again_is_another_process() -> None:
    this = Process.this()
    assert not Process.named(this.name).has_ended
    assert this.model_copy(update={"since": this.since - 60}).has_ended


def test_a_manifest_from_before_namespaces_is_of_this_host() -> None:
    older = Process.model_validate_json(
        Process.this().model_copy(update={"since": 0.0}).model_dump_json(exclude={"namespace"})
    )
    assert older.is_here
    assert older.has_ended
