"""Run independent shards of work in this process or in several: one per CPU core, or one per GPU."""

import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from tckr.engine.progress import track
from tckr.engine.scratch import private_opener, scratch
from tckr.errors import UserError, user_error

Shard = TypeVar("Shard")
Result = TypeVar("Result")

# Read by a worker when it imports torch: one thread each, and no bar inside the bar of the shards.
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TCKR_PROGRESS": "0",
}

# A terminal sends these to workers and parent alike; the parent alone answers, and stops its workers.
STOPS = [signal.SIGINT, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]

# Shards of a stream that are begun per worker before their turn comes: so many results wait in memory at most.
AHEAD = 3

_work: Callable[..., Any] | None = None


class ShardError(RuntimeError):
    """A shard failed: the message names it.

    Its `__cause__` is the error of the shard, with the traceback of the process that raised it. Where the shard raised
    a `UserError`, or an error caused by one, that `UserError` is the cause, whichever process it was raised in.
    """


def map_shards(
    function: Callable[..., Result],
    shards: Sequence[Shard],
    workers: int = 1,
    description: str = "shards",
    *,
    shared: Any = None,
    devices: Sequence[str] = (),
) -> list[Result]:
    """Apply `function` to every shard and return the results in the order of the shards.

    Args:
        function: called as `function(shard)`, or `function(shard, shared)` if `shared` is given;
            with more than one worker it must be defined at the top level of a module.
        shards: small, picklable pieces of work; their `str` names them in errors.
        workers: number of processes; 1 runs in this one. Each process computes on one torch thread.
        description: name of the progress bar.
        shared: what all shards read (images, models); sent to every worker once, not once per
            shard.
        devices: GPUs, named as in CUDA_VISIBLE_DEVICES; with two or more, one process runs on each
            of them, and `workers` is ignored.

    Returns:
        One result per shard.

    Raises:
        ShardError: a shard failed; those not yet started are dropped.
        ValueError: fewer than one worker.

    >>> map_shards(lambda shard, offset: offset + shard, [1, 2, 3], shared=10)
    [11, 12, 13]
    """
    return list(_results(function, shards, workers, description, shared, devices, None))


def stream_shards(
    function: Callable[..., Result],
    shards: Sequence[Shard],
    workers: int = 1,
    description: str = "shards",
    *,
    shared: Any = None,
    devices: Sequence[str] = (),
) -> Iterator[Result]:
    """Yield the results of `map_shards` as they come, in the order of the shards.

    Workers stay a few shards ahead of whoever reads, and no more: a slow reader finds few results waiting in memory.
    """
    return _results(function, shards, workers, description, shared, devices, AHEAD)


def _results(
    function: Callable[..., Result],
    shards: Sequence[Shard],
    workers: int,
    description: str,
    shared: Any,
    devices: Sequence[str],
    ahead: int | None,
) -> Iterator[Result]:
    """Yield the results in order; with `ahead`, so many shards per worker are begun before their turn comes."""
    if workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")
    arguments = () if shared is None else (shared,)
    workers = len(devices) or workers
    if min(workers, len(shards)) <= 1:
        return (
            _named(function, shard, arguments) for shard in track(shards, description, len(shards))
        )
    window = len(shards) if ahead is None else ahead * workers
    return _in_processes(function, shards, workers, description, arguments, devices, window)


def visible_devices() -> list[str]:
    """Return the GPUs that this process may use, named as in CUDA_VISIBLE_DEVICES; empty without any."""
    import torch

    count = torch.cuda.device_count()
    names = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return names[:count] if names else [str(i) for i in range(count)]


def _named(function: Callable[..., Result], shard: Shard, arguments: tuple[Any, ...]) -> Result:
    try:
        # One bar, that of the shards: those inside a shard would push it off the screen.
        with _environment({"TCKR_PROGRESS": "0"}):
            return function(shard, *arguments)
    except Exception as error:
        raise _shard_error(shard, error) from error


def _shard_error(shard: object, error: BaseException) -> ShardError:
    return ShardError(f"shard {shard} failed: {type(error).__name__}: {error}")


def _in_processes(
    function: Callable[..., Result],
    shards: Sequence[Shard],
    workers: int,
    description: str,
    arguments: tuple[Any, ...],
    devices: Sequence[str],
    window: int,
) -> Iterator[Result]:
    context = multiprocessing.get_context("spawn")
    free = context.SimpleQueue()
    for device in devices:
        free.put(device)
    with scratch("shards") as folder:
        # By file, not through torch's shared memory: /dev/shm is small in many containers.
        path = folder / "work.pickle"
        with open(path, "wb", opener=private_opener) as file:
            pickle.dump((function, arguments), file, protocol=5)
        pool = ProcessPoolExecutor(
            min(workers, len(shards)),
            # Spawned, not forked: a fork after torch has started its threads can hang in the child.
            mp_context=context,
            initializer=_start_worker,
            initargs=(os.getpid(), str(path), free if devices else None),
        )
        try:
            yield from _collect(pool, shards, window, description)
        except BaseException:
            # Interrupted or failed: nobody will read the other results, so they stop at once.
            for process in list((pool._processes or {}).values()):
                process.terminate()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _collect(
    pool: ProcessPoolExecutor, shards: Sequence[Shard], window: int, description: str
) -> Iterator[Any]:
    """Yield each result once it and all before it are there, and forget it; a failed shard is reported at once.

    `window` shards are with the pool at a time: one that was yielded makes room for the next.
    """
    left = iter(shards)
    in_order: deque[Future[bytes]] = deque()
    running: dict[Future[bytes], Shard] = {}
    ended: SimpleQueue[Future[bytes]] = SimpleQueue()

    def submit() -> None:
        with _environment(WORKER_ENVIRONMENT):
            for shard in islice(left, window - len(in_order)):
                future = pool.submit(_run, pickle.dumps(shard))
                in_order.append(future)
                running[future] = shard
                future.add_done_callback(ended.put)

    def completed() -> Iterator[None]:
        while running:
            future = ended.get()
            error = future.exception()
            if isinstance(error, BrokenProcessPool):
                raise ShardError("a worker process died") from UserError(
                    f"A worker process died in {description}, probably out of memory.",
                    "lower the number of workers of that stage, or free memory.",
                )
            shard = running.pop(future)
            if error is not None:
                raise _shard_error(shard, error) from error
            yield

    submit()
    for _ in track(completed(), description, len(shards)):
        while in_order and in_order[0] not in running:
            yield pickle.loads(in_order.popleft().result())  # noqa: S301  our own workers
            submit()


def _start_worker(parent: int, path: str, devices: Any) -> None:
    """Claim a GPU if there are any and read the shared work; exit with the parent, which alone handles interrupts."""
    global _work  # noqa: PLW0603  the one thing a worker keeps between shards
    if devices is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = devices.get()  # before anything imports torch
    for stop in STOPS:
        signal.signal(stop, signal.SIG_IGN)
    threading.Thread(target=_exit_with, args=(parent,), daemon=True).start()
    with Path(path).open("rb") as file:
        function, arguments = pickle.load(file)  # noqa: S301  written by our parent
    _work = lambda shard: function(shard, *arguments)  # noqa: E731


def _exit_with(parent: int) -> None:
    """End this process when its parent is gone, even if that was killed outright."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _run(shard: bytes) -> bytes:
    if _work is None:
        raise RuntimeError("the worker was not started by map_shards")
    try:
        return pickle.dumps(_work(pickle.loads(shard)), protocol=5)  # noqa: S301
    except Exception as error:
        # Pickling an error drops its causes, so the one meant for the user is sent itself.
        readable = user_error(error)
        if readable is not None:
            raise readable from None
        if not _can_be_pickled(error):
            raise RuntimeError(f"{type(error).__name__}: {error}") from error
        raise


def _can_be_pickled(error: Exception) -> bool:
    """Whether the parent can read `error`; one that it cannot would break the pool of processes."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301
    except Exception:
        return False
    return True


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
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
