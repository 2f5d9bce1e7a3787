"""Throw unfinished work away once what came of it is saved, and not a moment before.

>>> once_saved(lambda: print("checkpoints removed"))
>>> saved()  # called by whoever has saved the results
checkpoints removed
>>> saved()
>>> once_over(lambda: print("what several parts of the run shared removed"))
>>> saved()
>>> over()  # called at the end of a run, whatever its end
what several parts of the run shared removed
"""

from collections.abc import Callable

_waiting: list[Callable[[], object]] = []
_to_the_end: list[Callable[[], object]] = []


def once_saved(action: Callable[[], object]) -> None:
    """Let `action` wait until the results of the work that asks for it are saved.

    A run that is killed between the end of long work and the end of saving it would lose the work otherwise.
    """
    _waiting.append(action)


def saved() -> None:
    """Do what waits: everything that was computed so far is saved."""
    while _waiting:
        _waiting.pop(0)()


def once_over(action: Callable[[], object]) -> None:
    """Let `action` wait for the end of the run, whose later parts may need the work too."""
    _to_the_end.append(action)


def over() -> None:
    """Do what waits for the end of the run."""
    while _to_the_end:
        _to_the_end.pop(0)()
