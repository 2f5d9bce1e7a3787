"""A process of a Ray cluster that does shards: it reads the task once, and keeps the model from shard to shard."""

import os
import pickle
import socket
from pathlib import Path

from tckr.engine.code import code_state
from tckr.engine.exchange import Sent, receive
from tckr.engine.tasks import Record, Task, to_be_sent
from tckr.errors import UserError


class Worker:
    """A process of the cluster that does shards of one task."""

    def set_up(self, sent: Sent, folder: str, code: str) -> tuple[str | None, bytes | None]:
        """Read the task.

        Args:
            sent: the task.
            folder: of the project, from which relative places count.
            code: what the command runs, which must be the same here; see `tckr.engine.code`.

        Returns:
            The model of the device that shards are computed on, and the error if there was one.
        """
        try:
            os.umask(0o077)
            _check_code(code)
            _enter(folder)
            self._task: Task = receive(sent)
            return device_model(), None
        except Exception as error:
            return None, pickle.dumps(to_be_sent(error))

    def run(self, item: bytes, tries: int) -> tuple[Record | None, bytes | None]:
        """Do a shard; return its record, or its error."""
        try:
            return self._task.run(pickle.loads(item), tries)[1], None  # noqa: S301  our driver's
        except Exception as error:
            return None, pickle.dumps(to_be_sent(error))


def device_model() -> str:
    """Return the model of the device that shards are computed on in this process."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if "model name" in line), "CPU")


def _check_code(code: str) -> None:
    if code != code_state():
        raise UserError(
            f"{socket.gethostname()} has other code of tckr, or other versions of its libraries, than the command.",
            "install the same on every node of the cluster.",
        )


def _enter(folder: str) -> None:
    try:
        os.chdir(folder)
    except OSError as error:
        raise UserError(
            f"A node of the cluster has no folder {folder} ({error.strerror}).",
            "share the folder of the project with all nodes, under the same path.",
        ) from None
