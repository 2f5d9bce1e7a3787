"""Signals that would end a process at once unwind it."""

import os
import signal

import pytest

from tckr.interrupt import Interrupted, unwinding


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_raised_within_the_block_alone(how: signal.Signals) -> None:
    outside = signal.signal(how, signal.SIG_DFL)  # whatever started the tests, nohup or not
    before = signal.getsignal(how)
    try:
        with pytest.raises(Interrupted) as stopped, unwinding():
            os.kill(os.getpid(), how)
        assert signal.getsignal(how) == before
    finally:
        signal.signal(how, outside)

    assert stopped.value.number == how
    assert isinstance(stopped.value, KeyboardInterrupt)  # no `except Exception` swallows it


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as by nohup
    try:
        with unwinding():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
