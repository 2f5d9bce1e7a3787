"""A process by a name that fits a file or a tag, by which it is known again later.

>>> is_alive(identity())
True
"""

import os
import re
from contextlib import suppress

from tckr.process import Process

NAME = re.compile(r"(?P<host>.+)_(?P<space>\d+)_(?P<number>\d+)_(?P<since>\d+\.\d+)")


def identity() -> str:
    """Return what tells this process from every other, past and future ones of its number too.

    The text is `<host>_<namespace>_<number>_<since>`: containers may share a name, and number their processes apart.
    """
    this = Process.this()
    return f"{this.host}_{_namespace()}_{this.number}_{this.since:.2f}"


def is_alive(name: str) -> bool:
    """Whether the process of that `identity` may still run.

    One of another machine, or a name that is none, counts as alive: nobody here can know that it is not.

    >>> is_alive(identity().rpartition("_")[0] + "_1.00"), is_alive("elsewhere_1_1_7.00")
    (False, True)
    """
    found = NAME.fullmatch(name)
    if found is None or int(found["space"]) != _namespace():
        return True
    process = Process(host=found["host"], number=int(found["number"]), since=float(found["since"]))
    return not process.has_ended


def _namespace() -> int:
    with suppress(OSError):
        return os.stat("/proc/self/ns/pid").st_ino
    return 0  # a system without any
