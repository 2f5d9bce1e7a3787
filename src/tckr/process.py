"""Which process a run belongs to, and whether that process is still there."""

import os
import socket

import psutil
from pydantic import BaseModel, ConfigDict, Field

SAME = 2.0  # seconds by which two readings of when a process began may differ


class Process(BaseModel):
    """A process, told from others that get the same number later."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    host: str = Field(description="name of the machine")
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
            host=socket.gethostname(), number=number, since=psutil.Process(number).create_time()
        )

    @property
    def is_here(self) -> bool:
        """Whether this machine is the process's; of another nothing can be known."""
        return self.host == socket.gethostname()

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
