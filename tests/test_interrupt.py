"""Signals that would end a process at once unwind it."""

import os
import signal

import pytest

from tckr.interrupt import Interrupted, unwinding


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_raised_within_the_block_alone(how: signal.Signals) -> None:
    before = signal.getsignal(how)
    with pytest.raises(Interrupted) as stopped, unwinding():
        os.kill(os.getpid(), how)

    assert stopped.value.number == how
    assert isinstance(stopped.value, KeyboardInterrupt)  # no `except Exception` swallows it
    assert signal.getsignal(how) == before


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as by nohup
    try:
        with unwinding():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
