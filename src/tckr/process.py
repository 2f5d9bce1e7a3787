"""Which process a run belongs to, and whether that process is still there.

>>> this = Process.this()
>>> Process.named(this.name).has_ended
False
"""

import os
import re
import socket
from contextlib import suppress

import psutil
from pydantic import BaseModel, ConfigDict, Field

SAME = 2.0  # seconds by which two readings of when a process began may differ
NAME = re.compile(r"(?P<host>.+)_(?P<namespace>\d+)_(?P<number>\d+)_(?P<since>\d+\.\d+)")


class Process(BaseModel):
    """A process, told from others that get the same number later, or have it in another container."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    host: str = Field(description="name of the machine")
    namespace: int = Field(
        default=0, description="that its number counts in: a container's; 0 where none is known"
    )
    number: int = Field(description="process id")
    since: float = Field(description="when it began, seconds since 1970")

    @classmethod
    def this(cls) -> "Process":
        """Return the process that calls.

        >>> Process.this().has_ended
        False
        >>> Process.this().model_copy(update={"since": 0.0}).has_ended
        True
        """
        number = os.getpid()
        return cls(
            host=socket.gethostname(),
            namespace=_namespace(),
            number=number,
            since=psutil.Process(number).create_time(),
        )

    @classmethod
    def named(cls, name: str) -> "Process | None":
        """Return the process of a `name`; None for a text that is none.

        >>> Process.named("machine_4026531836_17_1700000000.25")
        Process(host='machine', namespace=4026531836, number=17, since=1700000000.25)
        >>> Process.named("a folder of somebody's")
        """
        found = NAME.fullmatch(name)
        return None if found is None else cls.model_validate(found.groupdict())

    @property
    def name(self) -> str:
        """`<host>_<namespace>_<number>_<since>`, which fits a file or a tag and tells it from every other process."""
        return f"{self.host}_{self.namespace}_{self.number}_{self.since:.2f}"

    @property
    def is_here(self) -> bool:
        """Whether its number means that process here; of another machine or container nothing can be known."""
        if self.host != socket.gethostname():
            return False
        return self.namespace in {0, _namespace()}

    @property
    def has_ended(self) -> bool:
        """Whether the process is known to be gone."""
        if not self.is_here:
            return False
        try:
            found = psutil.Process(self.number)
            zombie = found.status() == psutil.STATUS_ZOMBIE
            return zombie or abs(found.create_time() - self.since) > SAME
        except psutil.NoSuchProcess:
            return True
        except psutil.AccessDenied:
            return False


def _namespace() -> int:
    with suppress(OSError):
        return os.stat("/proc/self/ns/pid").st_ino
    return 0  # a system without any
