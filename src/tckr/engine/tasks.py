"""One shard of work as every engine does it: timed, named where it fails, its result kept under its name."""

import hashlib
import os
import pickle
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from tckr.errors import user_error

if TYPE_CHECKING:  # it imports torch, which not every worker needs
    from tckr.engine.checkpoint import Checkpoint, Checkpoints

# Read by a worker when it imports torch: one thread each, and no bar inside the bar of the shards.
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TCKR_PROGRESS": "0",
}
LONGEST = 120  # characters of a file's name


class ShardError(RuntimeError):
    """A shard failed: the message names it.

    Its `__cause__` is the error of the shard, with the traceback of the process that raised it. Where the shard raised
    a `UserError`, or an error caused by one, that `UserError` is the cause, whichever process it was raised in.
    """


@dataclass(frozen=True)
class Record:
    """Who did a shard.

    Attributes:
        shard: its name.
        host: name of the machine.
        device: "cpu", or the GPU as in CUDA_VISIBLE_DEVICES.
        process: number of the process.
        seconds: of the try that succeeded.
        tries: how often it was begun, that one included.
    """

    shard: str
    host: str
    device: str
    process: int
    seconds: float
    tries: int


class Item(NamedTuple):
    """A shard to be done: its place in the list, the name of its result, and itself."""

    number: int
    name: str
    shard: Any


class Done(NamedTuple):
    """A shard that is done: its place in the list, who did it, and how to get its result unless that was kept."""

    number: int
    record: Record
    result: Callable[[], Any]


@dataclass(frozen=True)
class Task:
    """What is done with each shard.

    Attributes:
        function: called with the shard and `arguments`.
        arguments: what all shards read.
        keep: where results are kept, which then do not travel.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    keep: "Checkpoints | None" = None

    def run(self, item: Item, tries: int = 1) -> tuple[Any, Record]:
        """Do a shard in this process and return its result (None if that is kept) and its record."""
        start = time.perf_counter()
        # One bar, that of the shards: those inside a shard would push it off the screen.
        with environment({"TCKR_PROGRESS": "0"}):
            result = self.function(item.shard, *self.arguments)
        seconds = time.perf_counter() - start
        record = Record(
            str(item.shard), socket.gethostname(), device(), os.getpid(), seconds, tries
        )
        if self.keep is not None:
            state = {"result": result, "record": asdict(record)}
            self.checkpoint(item.name).save({"shard": record.shard}, state)
            result = None
        return result, record

    def checkpoint(self, name: str) -> "Checkpoint":
        """Return where the result of a shard is kept."""
        assert self.keep is not None
        return self.keep.of(name)

    def load(self, item: Item) -> Any:
        """Return a result that is kept.

        Raises:
            UserError: it is damaged.
        """
        saved = self.checkpoint(item.name).load({"shard": str(item.shard)})
        if saved is None:
            raise shard_error(item.shard, FileNotFoundError(self.checkpoint(item.name).path))
        return saved["result"]


def part_name(shard: Any) -> str:
    """Return the name of a shard as that of a file; different names stay different.

    >>> part_name(range(0, 8)), len(part_name("x" * 500))
    ('range%280%2C%208%29', 120)
    """
    name = quote(str(shard), safe="")
    return (
        name
        if len(name) <= LONGEST
        else name[: LONGEST - 17] + "-" + hashlib.sha256(name.encode()).hexdigest()[:16]
    )


def device() -> str:
    """Return the device of this process: "cpu", or the GPUs that it was given."""
    return f"gpu {gpus}" if (gpus := os.environ.get("CUDA_VISIBLE_DEVICES")) else "cpu"


def shard_error(shard: object, error: BaseException) -> ShardError:
    """Return the error that names a shard which failed with `error`."""
    return ShardError(f"shard {shard} failed: {type(error).__name__}: {error}")


def to_be_sent(error: Exception) -> Exception:
    """Return what of an error another process can read: the one meant for the user, or all of it, or its words.

    Pickling an error drops its causes, so the one that the user should read is sent itself.
    """
    readable = user_error(error)
    if readable is not None:
        return readable
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


@contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables within the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
