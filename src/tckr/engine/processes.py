"""Shards in processes of this machine: one per CPU core, or one per GPU."""

import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from itertools import islice
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from tqdm import tqdm

from tckr.engine.scratch import private_opener, scratch
from tckr.engine.tasks import (
    WORKER_ENVIRONMENT,
    Done,
    Item,
    Record,
    ShardError,
    Task,
    environment,
    shard_error,
    to_be_sent,
)
from tckr.errors import UserError

# A terminal sends these to workers and parent alike; the parent alone answers, and stops its workers.
STOPS = [signal.SIGINT, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]

_task: Task | None = None


def run_here(task: Task, items: Sequence[Item]) -> Generator[Done, None, None]:
    """Do one shard after the other in this process."""
    for item in items:
        try:
            result, record = task.run(item)
        except Exception as error:
            raise shard_error(item.shard, error) from error
        yield Done(item.number, record, partial(_same, result))


@dataclass
class Reader:
    """Whoever reads the results, and how far workers may be ahead of it.

    Attributes:
        window: shards that may be begun and whose results are not read yet.
        on_read: called whenever a result was read.
    """

    window: int
    on_read: Callable[[], None] | None = None

    def has_read(self) -> None:
        """Make room for the next shard."""
        if self.on_read is not None:
            self.on_read()


def run_in_processes(
    task: Task,
    items: Sequence[Item],
    workers: int,
    devices: Sequence[str],
    description: str,
    reader: Reader,
) -> Generator[Done, None, None]:
    """Do shards side by side and yield them as they are done; a failed one is reported at once.

    Args:
        workers: processes.
        devices: GPUs as in CUDA_VISIBLE_DEVICES; if there are any, each process gets one.
        reader: of the results.
    """
    with scratch("shards") as folder:
        # By file, not through torch's shared memory: /dev/shm is small in many containers.
        path = folder / "work.pickle"
        with open(path, "wb", opener=private_opener) as file:
            pickle.dump(task, file, protocol=5)
        pool = ProcessPoolExecutor(
            min(workers, len(items)),
            mp_context=_Context(devices),
            initializer=_start_worker,
            initargs=(os.getpid(), str(path)),
        )
        try:
            yield from _collect(pool, items, reader, description)
        except BaseException:
            # Interrupted or failed: nobody will read the other results, so they stop at once.
            for process in list((pool._processes or {}).values()):
                process.terminate()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _collect(
    pool: ProcessPoolExecutor, items: Sequence[Item], reader: Reader, description: str
) -> Iterator[Done]:
    """Yield what is done; a result that was read makes room for the next shard."""
    left = iter(items)
    running: dict[Future[tuple[bytes, Record]], Item] = {}
    ended: SimpleQueue[Future[tuple[bytes, Record]]] = SimpleQueue()

    def submit(count: int = 1) -> None:
        for item in islice(left, count):
            future = pool.submit(_run, pickle.dumps(item))
            running[future] = item
            future.add_done_callback(ended.put)

    submit(reader.window)
    reader.on_read = submit
    while running:
        future = ended.get()
        error = future.exception()
        if isinstance(error, BrokenProcessPool):
            raise ShardError("a worker process died") from died(description)
        item = running.pop(future)
        if error is not None:
            raise shard_error(item.shard, error) from error
        result, record = future.result()
        done = Done(item.number, record, partial(pickle.loads, result))
        del future, result
        yield done
        del done


class _Process(SpawnProcess):
    """A process that finds its GPU in its environment when it starts.

    A worker that set CUDA_VISIBLE_DEVICES itself would come too late wherever the main program, which it imports first, has
    asked CUDA for its devices (`torch.cuda.is_available()` in a library does): all workers would then share the first GPU.
    """

    device: str | None = None

    def start(self) -> None:
        """Start, with nothing but the worker's own GPU to be seen."""
        own = {} if self.device is None else {"CUDA_VISIBLE_DEVICES": self.device}
        with environment(WORKER_ENVIRONMENT | own):
            super().start()


class _Context(SpawnContext):
    """Gives every process a GPU of its own; spawned, not forked: a fork after torch has started its threads can hang."""

    def __init__(self, devices: Sequence[str]) -> None:
        super().__init__()
        self.devices = iter(devices)

    def Process(self, *args: Any, **kwargs: Any) -> _Process:  # type: ignore[override]  # noqa: N802  its name there
        """Return a process for the next GPU, or for the CPU where none is given."""
        process = _Process(*args, **kwargs)
        process.device = next(self.devices, None)
        return process


def died(description: str) -> UserError:
    """Return what to say of a worker process that died."""
    return UserError(
        f"A worker process died in {description}, probably out of memory.",
        "lower the number of workers of that stage, or free memory.",
    )


def _start_worker(parent: int, path: str) -> None:
    """Read the shared work; exit with the parent, which alone handles interrupts."""
    global _task  # noqa: PLW0603  the one thing a worker keeps between shards
    for stop in STOPS:
        signal.signal(stop, signal.SIG_IGN)
    threading.Thread(target=_exit_with, args=(parent,), daemon=True).start()
    # A lock across processes, tqdm's own choice, would be reported as leaked when the worker ends.
    tqdm.set_lock(threading.RLock())
    with Path(path).open("rb") as file:
        _task = pickle.load(file)  # noqa: S301  written by our parent


def _exit_with(parent: int) -> None:
    """End this process when its parent is gone, even if that was killed outright."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _run(sent: bytes) -> tuple[bytes, Record]:
    if _task is None:
        raise RuntimeError("the worker was not started by map_shards")
    try:
        result, record = _task.run(pickle.loads(sent))  # noqa: S301  our parent's
        return pickle.dumps(result, protocol=5), record
    except Exception as error:
        send = to_be_sent(error)
        if send is error:
            raise
        raise send from (None if isinstance(send, UserError) else error)


def _same(result: Any) -> Any:
    return result
