"""Know a process again later: by its machine, its number and when it started.

>>> is_alive(identity())
True
"""

import os
import platform
import re
from contextlib import suppress

import psutil

TOLERANCE = 2.0  # seconds by which a start may shift when the clock is set
NAME = re.compile(r"(?P<machine>.+)_(?P<number>\d+)_(?P<start>\d+\.\d+)")


def identity() -> str:
    """Return what tells this process from every other, past and future ones of its number too.

    The text is fit for the name of a file: `<host>_<namespace>_<pid>_<start>`, the last in seconds since 1970.
    """
    return f"{_machine()}_{os.getpid()}_{psutil.Process().create_time():.2f}"


def is_alive(name: str) -> bool:
    """Whether the process of that `identity` may still run.

    One of another machine, or a name that is none, counts as alive: nobody here can know that it is not.

    >>> is_alive(f"{identity()[:-3]}1.00"), is_alive("elsewhere_1_1_7.00")
    (False, True)
    """
    found = NAME.fullmatch(name)
    if found is None or found["machine"] != _machine():
        return True
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(int(found["number"]))
        same = abs(process.create_time() - float(found["start"])) <= TOLERANCE
        return same and process.status() != psutil.STATUS_ZOMBIE
    return False


def _machine() -> str:
    """Host and namespace of process numbers: two containers of one name number their processes apart."""
    namespace = 0
    with suppress(OSError):
        namespace = os.stat("/proc/self/ns/pid").st_ino
    return f"{platform.node() or 'unknown'}_{namespace}"
