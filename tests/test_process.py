"""Whose process has ended is told from processes that got its number later."""

import subprocess
import sys

from tckr.process import Process


def test_a_process_that_was_killed_has_ended() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    import psutil

    known = Process(
        host=Process.this().host,
        number=child.pid,
        since=psutil.Process(child.pid).create_time(),
    )
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
