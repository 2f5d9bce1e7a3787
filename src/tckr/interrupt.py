"""An interrupted run unwinds: its workers end, its temporary files go, and its record says that it was killed."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

NAMES = ("SIGTERM", "SIGHUP")


class Interrupted(KeyboardInterrupt):
    """The process was told to end.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    def __str__(self) -> str:
        return signal.Signals(self.number).name


@contextmanager
def unwinding() -> Iterator[None]:
    """Raise `Interrupted` within the block where a signal would have ended the process at once.

    One that is ignored stays so: that is how `nohup` works.

    >>> import os
    >>> try:
    ...     with unwinding():
    ...         os.kill(os.getpid(), signal.SIGTERM)
    ... except Interrupted as stopped:
    ...     print(stopped)
    SIGTERM
    """
    before = {}
    for name in NAMES:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            before[number] = signal.signal(number, _raise)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _raise(number: int, frame: FrameType | None) -> None:
    del frame
    raise Interrupted(number)
