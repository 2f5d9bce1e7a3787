"""Run independent shards of work: in this process, in several of this machine, or on a Ray cluster.

Which of them is chosen once for a run (`use_engine`), and changes no result.
"""

import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tckr.engine.options import EngineOptions
from tckr.engine.places import place
from tckr.engine.processes import Reader, run_here, run_in_processes
from tckr.engine.progress import track
from tckr.engine.scratch import private_opener
from tckr.engine.tasks import Done, Item, Record, ShardError, Task, part_name

if TYPE_CHECKING:
    from tckr.engine.checkpoint import Checkpoints
    from tckr.engine.cluster import Cluster

__all__ = [
    "ShardError",
    "cut",
    "durable",
    "map_shards",
    "resolve_workers",
    "slots",
    "stream_shards",
    "use_engine",
    "visible_devices",
]

Shard = TypeVar("Shard")
Result = TypeVar("Result")

logger = logging.getLogger(__name__)

# Shards of a stream that are begun per worker before their turn comes: so many results wait in memory at most.
AHEAD = 3


def map_shards(
    function: Callable[..., Result],
    shards: Sequence[Shard],
    workers: int = 1,
    description: str = "shards",
    *,
    shared: Any = None,
    devices: Sequence[str] = (),
    keep: "Checkpoints | None" = None,
) -> list[Result]:
    """Apply `function` to every shard and return the results in the order of the shards.

    Args:
        function: called as `function(shard)`, or `function(shard, shared)` if `shared` is given;
            with more than one worker it must be defined at the top level of a module, on a cluster of one that its nodes
            can import, not of the script that runs. It draws its random numbers from
            a seed that it derives from the shard, never from who runs it.
        shards: small, picklable pieces of work; their `str` names them in errors and in `keep`.
        workers: number of processes; 1 runs in this one, whatever the engine. Each process computes on one torch
            thread. On a Ray cluster there are as many as its nodes hold, if it is not 1.
        description: name of the progress bar.
        shared: what all shards read (images, models); sent to every worker once, not once per
            shard.
        devices: GPUs, named as in CUDA_VISIBLE_DEVICES; with two or more, one process runs on each
            of them, and `workers` is ignored.
        keep: where the result of each shard is kept by whoever did it, under the shard's name, in a folder of this work
            alone. Those that are there are not made again. On a cluster, and with `keep` everywhere, results are
            tensors, plain values, and containers of them.

    Returns:
        One result per shard.

    Raises:
        ShardError: a shard failed, on a cluster everywhere it was tried. On this machine those not yet started are
            dropped; on a cluster the others are finished first, unless the error is one for the user.
        ValueError: fewer than one worker, or two shards of one name to be kept.

    >>> map_shards(lambda shard, offset: offset + shard, [1, 2, 3], shared=10)
    [11, 12, 13]
    """
    return list(_results(function, shards, workers, description, shared, devices, keep, None))


def stream_shards(
    function: Callable[..., Result],
    shards: Sequence[Shard],
    workers: int = 1,
    description: str = "shards",
    *,
    shared: Any = None,
    devices: Sequence[str] = (),
    keep: "Checkpoints | None" = None,
) -> Iterator[Result]:
    """Yield the results of `map_shards` as they come, in the order of the shards.

    Workers of this machine stay a few shards ahead of whoever reads, and no more: a slow reader finds few results waiting
    in memory. Those of a cluster, and those that are kept, wait in files.
    """
    return _results(function, shards, workers, description, shared, devices, keep, AHEAD)


def _results(
    function: Callable[..., Result],
    shards: Sequence[Shard],
    workers: int,
    description: str,
    shared: Any,
    devices: Sequence[str],
    keep: "Checkpoints | None",
    ahead: int | None,
) -> Iterator[Result]:
    """Yield the results in order; with `ahead`, so many shards per worker are begun before their turn comes."""
    if workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")
    items = [Item(i, part_name(shard) if keep else "", shard) for i, shard in enumerate(shards)]
    if keep and len({item.name for item in items}) < len(items):
        raise ValueError("two shards of one name cannot both be kept")
    task = Task(function, () if shared is None else (shared,), keep)
    workers = len(devices) or workers
    reader = Reader(len(items) if keep or ahead is None else ahead * workers)
    return _in_order(task, items, workers, description, devices, reader)


def visible_devices() -> list[str]:
    """Return the GPUs that this process may use, named as in CUDA_VISIBLE_DEVICES; empty without any."""
    import torch

    count = torch.cuda.device_count()
    names = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return names[:count] if names else [str(i) for i in range(count)]


@dataclass
class _Engine:
    """What runs the shards of this process.

    Attributes:
        options: of the engine.
        cluster: the Ray cluster, if shards run there.
        log: file with a line for every shard that a worker did: stage, shard, host, device, process, seconds, tries.
    """

    options: EngineOptions = field(default_factory=EngineOptions)
    cluster: "Cluster | None" = None
    log: Path | None = None

    def note(self, stage: str, record: Record) -> None:
        if self.log is not None:
            with open(self.log, "a", opener=private_opener) as file:
                file.write(json.dumps({"stage": stage, **asdict(record)}) + "\n")


_engine = _Engine()


@contextmanager
def use_engine(options: EngineOptions, log: Path | None = None) -> Iterator[str]:
    """Let the shards within the block run where the options say; yield a description of that place.

    Args:
        options: of the engine.
        log: file to which a line is added for every shard that a worker did, a JSON object: `stage`, and the fields of
            `Record`.

    Raises:
        UserError: there is no such cluster.
    """
    global _engine  # noqa: PLW0603  the one of this process
    cluster, told = None, options.describe()
    if options.kind == "ray":
        from tckr.engine.cluster import Cluster

        cluster = Cluster.connect(options)
        told = cluster.describe()
    before, _engine = _engine, _Engine(options, cluster, log)
    try:
        yield told
    finally:
        _engine = before
        if cluster is not None:
            cluster.close()


def resolve_workers() -> tuple[int, list[str]]:
    """Return how many shards of heavy work are done at once, and the GPUs of this machine that share it.

    Returns:
        The workers of the cluster and no GPU of ours; or the number of GPUs, and their names if there are several; or
        `(0, [])` on a CPU, where the caller decides.
    """
    from tckr.engine.device import best

    if (workers := slots()) is not None:
        return workers, []
    devices = visible_devices() if best() == "cuda" else []
    return len(devices), devices if len(devices) > 1 else []


def slots() -> int | None:
    """Return how many shards the cluster does at once; None where they run on this machine."""
    return None if _engine.cluster is None else _engine.cluster.slots()


def cut(count: int, pixels: int, batch: int) -> list[range]:
    """Return the rows of `count` images in shards of about `engine.shard_pixels` pixels.

    A shard is whole batches, so that every image is computed in the batch in which it would be computed otherwise.

    Args:
        count: images.
        pixels: of one image, as the model sees it.
        batch: images that are computed at once.

    >>> cut(10, 1 << 20, 4)
    [range(0, 10)]
    >>> cut(10, 1 << 26, 4)
    [range(0, 4), range(4, 8), range(8, 10)]
    """
    size = max(1, _engine.options.shard_pixels // (pixels * batch)) * batch
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def durable(name: str, folder: str | None = None) -> "Checkpoints | None":
    """Return where results of some work are kept so that a run that is killed finds them again.

    Args:
        name: of the work, a hash of all that decides its results.
        folder: of such results on this machine; None: there they are handed on, and not kept.

    Returns:
        A folder of this name, on a cluster in the engine's storage if there is one.
    """
    from tckr.engine.checkpoint import Checkpoints

    if _engine.cluster is not None and _engine.options.storage is not None:
        folder = _engine.options.storage
    return None if folder is None else Checkpoints(place(folder) / name)


def _in_order(
    task: Task,
    items: list[Item],
    workers: int,
    description: str,
    devices: Sequence[str],
    reader: Reader,
) -> Iterator[Any]:
    """Yield each result once it and all before it are there, and forget it."""
    found = task.keep.parts() if task.keep else set()
    missing = [item for item in items if item.name not in found]
    there: dict[int, Done] = {}
    engine, seen = _engine, _Seen()
    with ExitStack() as stack:
        running = stack.enter_context(
            closing(_run(engine, task, missing, workers, description, devices, reader))
        )
        coming = track(running, description, len(items), len(items) - len(missing))
        stack.enter_context(closing(coming))
        for item in items:
            while item.name not in found and item.number not in there:
                done = next(coming)
                if workers > 1:  # others are parts of a shard, or a trial
                    engine.note(description, done.record)
                    seen.add(done.record)
                there[done.number] = done
            one = there.pop(item.number, None)
            result = task.load(item) if task.keep or one is None else one.result()
            del one
            yield result
            del result
            reader.has_read()
    seen.tell(description)


def _run(
    engine: _Engine,
    task: Task,
    items: Sequence[Item],
    workers: int,
    description: str,
    devices: Sequence[str],
    reader: Reader,
) -> Generator[Done, None, None]:
    if min(workers, len(items)) <= 1:
        return run_here(task, items)
    if engine.cluster is not None:
        return engine.cluster.run(task, items, description)
    return run_in_processes(task, items, workers, devices, description, reader)


class _Seen:
    """Where shards were done, and how many took more than one try."""

    def __init__(self) -> None:
        self._hosts: Counter[str] = Counter()
        self._again = 0
        self._seconds = 0.0

    def add(self, record: Record) -> None:
        self._hosts[record.host] += 1
        self._again += record.tries > 1
        self._seconds += record.seconds

    def tell(self, description: str) -> None:
        if len(self._hosts) > 1 or self._again:
            logger.info(
                "%s: %s; %.1f s each on average, %s tried again.",
                description,
                ", ".join(f"{count:,} on {host}" for host, count in self._hosts.most_common()),
                self._seconds / max(1, self._hosts.total()),
                self._again,
            )
