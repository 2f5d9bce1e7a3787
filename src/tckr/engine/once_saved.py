"""Throw unfinished work away once what came of it is saved, and not a moment before.

>>> once_saved(lambda: print("checkpoints removed"))
>>> saved()  # called by whoever has saved the results
checkpoints removed
>>> saved()
"""

from collections.abc import Callable

_waiting: list[Callable[[], object]] = []


def once_saved(action: Callable[[], object]) -> None:
    """Let `action` wait until the results of the work that asks for it are saved.

    A run that is killed between the end of long work and the end of saving it would lose the work otherwise.
    """
    _waiting.append(action)


def saved() -> None:
    """Do what waits: everything that was computed so far is saved."""
    while _waiting:
        _waiting.pop(0)()
