"""Shards on a Ray cluster: one actor per GPU or core, which keeps the model; a shard whose worker dies is tried elsewhere.

Through Ray go names and records alone: what workers read and what they make lies in the storage (`tckr.engine.exchange`).
"""

import logging
import os
import pickle
import socket
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Self

from tckr.engine.checkpoint import Checkpoints
from tckr.engine.code import code_state
from tckr.engine.exchange import Sent, exchange, leave, receive, send, sweep
from tckr.engine.options import EngineOptions
from tckr.engine.processes import died
from tckr.engine.scratch import VARIABLE
from tckr.engine.tasks import (
    WORKER_ENVIRONMENT,
    Done,
    Item,
    Record,
    ShardError,
    Task,
    shard_error,
    to_be_sent,
)
from tckr.errors import UserError, user_error

LOOK = 2.0  # seconds between two looks at which nodes there are
REACH = 10.0  # seconds in which a cluster must answer
OBJECTS = (
    80 << 20
)  # bytes of Ray's object store where a cluster is started for a run: nothing large goes there
UNBORN = 3  # workers that may die as they start, one after the other, beside the retries
LOOPBACK = "127.0.0.1"
# Read by Ray when it is imported: a cluster of this machine alone then opens no other address.
ONLY_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"

logger = logging.getLogger(__name__)


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
            return _model(), None
        except Exception as error:
            return None, pickle.dumps(to_be_sent(error))

    def run(self, item: bytes, tries: int) -> tuple[Record | None, bytes | None]:
        """Do a shard; return its record, or its error."""
        try:
            return self._task.run(pickle.loads(item), tries)[1], None  # noqa: S301  our driver's
        except Exception as error:
            return None, pickle.dumps(to_be_sent(error))


@dataclass
class Cluster:
    """A connection to a Ray cluster.

    Attributes:
        options: of the engine.
        gpus: of one worker.
        address: of the cluster.
        dashboard: address of Ray's own pages, if there are any.
        started: whether the connection, and perhaps the cluster, is ours to end.
    """

    options: EngineOptions
    gpus: float
    address: str
    dashboard: str | None
    started: bool

    @classmethod
    def connect(cls, options: EngineOptions) -> Self:
        """Connect to the cluster that the options name, or start one.

        Raises:
            UserError: Ray is not installed, there is no such cluster, or none of its nodes can hold a worker.
        """
        gpus = _gpus_per_worker(options)
        ray = _import_ray(options.address)
        begun = not ray.is_initialized()
        if begun:
            settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
            if options.address == "local":
                settings |= {"include_dashboard": False, "object_store_memory": OBJECTS}
            if _is_loopback(options.address):
                settings["_node_ip_address"] = LOOPBACK
            try:
                _reach(options.address)
                ray.init(address=options.address, **settings)
            except (OSError, RuntimeError, ValueError) as error:
                raise UserError(
                    f"There is no Ray cluster at engine.address={options.address} ({_first(error)[:200]}).",
                    "start one with `ray start --head`, give its address, or engine.address=local to start one for the"
                    " run; see docs/scale.md.",
                ) from error
        context = ray.get_runtime_context()
        found = cls(options, gpus, context.gcs_address, None, begun)
        if not found.slots():
            found.close()
            raise UserError(
                f"No node of the Ray cluster {found.address} has {gpus:g} GPUs and {options.cpus_per_worker:g} cores.",
                "start one that has, or lower engine.gpus_per_worker or engine.cpus_per_worker.",
            )
        if url := getattr(ray._private.worker._global_node, "webui_url", None):
            found.dashboard = f"http://{url}"
        sweep(options.storage)
        return found

    def close(self) -> None:
        """End the connection, and the cluster if it was started for it; remove what lies in the storage."""
        leave(self.options.storage)
        if self.started:
            import ray

            ray.shutdown()

    def slots(self) -> int:
        """Return how many workers the nodes that are alive can hold."""
        import ray

        total = 0
        for node in ray.nodes():
            if node["Alive"]:
                has = node["Resources"]
                fits = [has.get("CPU", 0) / self.options.cpus_per_worker]
                if self.gpus:
                    fits.append(has.get("GPU", 0) / self.gpus)
                total += int(min(fits) + 1e-6)
        return total

    def describe(self) -> str:
        """Say what shards run on."""
        import ray

        hosts = len({node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]})
        each = f"{self.gpus:g} GPU" if self.gpus else f"{self.options.cpus_per_worker:g} core"
        told = (
            f"{self.slots()} workers of {each} on {hosts} host(s) of the Ray cluster {self.address}"
        )
        return f"{told}, dashboard {self.dashboard}" if self.dashboard else told

    def run(
        self, task: Task, items: Sequence[Item], description: str
    ) -> Generator[Done, None, None]:
        """Do shards on the cluster and yield them as they are done, those that failed everywhere excepted.

        Raises:
            ShardError: one failed everywhere, once all others are done; at once if its error is one for the user.
        """
        with ExitStack() as stack:
            folder = stack.enter_context(exchange(self.options.storage))
            kept = task.keep is not None
            if not kept:
                task = replace(task, keep=Checkpoints(folder / "results"))
            job = _Job(self, send(folder, task), deque(items), description)
            for item, record in stack.enter_context(job.under_way()):
                yield Done(item.number, record, partial(_read, task, item, kept))
        if job.failures:
            (item, error), *others = job.failures
            also = f" (and {len(others)} others)" if others else ""
            raise ShardError(f"{shard_error(item.shard, error)}{also}") from error


def _read(task: Task, item: Item, kept: bool) -> Any:
    result = task.load(item)
    if not kept:
        task.checkpoint(item.name).path.unlink()
    return result


@dataclass
class _Job:
    """Some shards of one task under way: which worker does which, what failed where, who is to be replaced.

    Attributes:
        cluster: that does them.
        sent: the task.
        waiting: shards that nobody does.
        description: of the stage, for messages.
        busy: worker and shard (None: it starts) by Ray's promise of an answer.
        idle: workers without a shard.
        tries: failed ones, by shard.
        failed_on: workers on which a shard failed.
        failures: shards that failed everywhere, and their errors.
        models: of the devices that shards are computed on.
        unborn: workers that died before their first shard, one after the other.
        stopped: whether nobody waits for the rest.
    """

    cluster: Cluster
    sent: Sent
    waiting: deque[Item]
    description: str
    busy: dict[Any, tuple[Any, Item | None]] = field(default_factory=dict)
    idle: list[Any] = field(default_factory=list)
    tries: Counter[int] = field(default_factory=Counter)
    failed_on: dict[int, list[Any]] = field(default_factory=dict)
    failures: list[tuple[Item, Exception]] = field(default_factory=list)
    models: set[str] = field(default_factory=set)
    unborn: int = 0
    stopped: bool = False

    @contextmanager
    def under_way(self) -> Iterator[Iterator[tuple[Item, Record]]]:
        """Yield what is done, as it is; workers get new shards whatever the reader does with it meanwhile."""
        answers: SimpleQueue[tuple[Item, Record] | BaseException | None] = SimpleQueue()

        def drive() -> None:
            try:
                for answer in self._run():
                    answers.put(answer)
                answers.put(None)
            except BaseException as error:
                answers.put(error)

        def read() -> Iterator[tuple[Item, Record]]:
            while (answer := answers.get()) is not None:
                if isinstance(answer, BaseException):
                    raise answer
                yield answer

        thread = threading.Thread(target=drive, daemon=True)
        thread.start()
        try:
            yield read()
        finally:
            self.stopped = True
            thread.join()
            self._end()

    def _run(self) -> Iterator[tuple[Item, Record]]:
        import ray

        self.models = {_model()}
        looked, slots = -LOOK, 0
        while not self.stopped and (self.waiting or self._under_way()):
            if time.monotonic() - looked > LOOK:  # nodes join and leave
                looked, slots = time.monotonic(), self.cluster.slots()
            self._grow(slots)
            self._hand_out()
            if not self.busy:  # all nodes that could work have left
                time.sleep(LOOK)
                continue
            for promise in ray.wait(list(self.busy), num_returns=1, timeout=LOOK)[0]:
                actor, item = self.busy.pop(promise)
                try:
                    answer, error = ray.get(promise)
                except ray.exceptions.RayError as lost:
                    logger.warning("A worker was lost in %s (%s).", self.description, _first(lost))
                    self._lost(item)
                    self._drop_idle()  # they may have been on the same node
                    looked = -LOOK
                    continue
                self.idle.append(actor)
                if error is not None:
                    self._failed(item, pickle.loads(error), actor)  # noqa: S301  our worker's
                elif item is None:
                    self._started(answer)
                else:
                    yield item, answer

    def _under_way(self) -> int:
        return sum(item is not None for _, item in self.busy.values())

    def _end(self) -> None:
        """End all workers."""
        self.idle += [actor for actor, _ in self.busy.values()]
        self._drop_idle()

    def _drop_idle(self) -> None:
        import ray

        while self.idle:
            ray.kill(self.idle.pop())

    def _grow(self, slots: int) -> None:
        """Start workers: no more than there is room or work for."""
        wanted = min(slots, len(self.waiting) + self._under_way())
        for _ in range(wanted - len(self.busy) - len(self.idle)):
            actor = self._new_actor()
            self.busy[actor.set_up.remote(self.sent, os.getcwd(), code_state())] = (actor, None)

    def _new_actor(self) -> Any:
        import ray

        variables = {**WORKER_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        if VARIABLE in os.environ:
            variables[VARIABLE] = str(Path(os.environ[VARIABLE]).absolute())
        settings = {
            "num_cpus": self.cluster.options.cpus_per_worker,
            "num_gpus": self.cluster.gpus,
            "runtime_env": {"env_vars": variables},
        }
        return ray.remote(Worker).options(**settings).remote()

    def _hand_out(self) -> None:
        for actor in list(self.idle):
            item = self._choose(actor)
            if item is not None:
                self.idle.remove(actor)
                self.waiting.remove(item)
                if not item.name:  # its result goes to a folder of this job alone
                    item = item._replace(name=str(item.number))
                tries = self.tries[item.number] + 1
                self.busy[actor.run.remote(pickle.dumps(item), tries)] = (actor, item)

    def _choose(self, actor: Any) -> Item | None:
        """Return the first shard that has not failed on this worker, or has failed on all that there are."""
        everyone = [*self.idle, *(other for other, _ in self.busy.values())]
        for item in self.waiting:
            failed = self.failed_on.get(item.number, [])
            if actor not in failed or all(other in failed for other in everyone):
                return item
        return None

    def _started(self, model: str) -> None:
        self.unborn = 0
        if model not in self.models:
            self.models.add(model)
            logger.warning(
                "Devices differ (%s): the last digits of what they compute may differ too.",
                ", ".join(sorted(self.models)),
            )

    def _lost(self, item: Item | None) -> None:
        """Let another worker try the shard of one that died; give up where workers cannot even start."""
        if item is not None:
            self._try_again(item, died(self.description))
            return
        self.unborn += 1
        if self.unborn > self.cluster.options.max_retries + UNBORN:
            raise ShardError("workers die as they start") from died(self.description)

    def _failed(self, item: Item | None, error: Exception, actor: Any) -> None:
        """Let another worker try a shard, unless the error would be the same everywhere."""
        if item is None:  # what a worker cannot read, the next one cannot either
            raise ShardError(f"a worker could not start: {error}") from error
        if user_error(error) is not None:
            raise shard_error(item.shard, error) from error
        self.failed_on.setdefault(item.number, []).append(actor)
        self._try_again(item, error)

    def _try_again(self, item: Item, error: Exception) -> None:
        self.tries[item.number] += 1
        again = self.tries[item.number] <= self.cluster.options.max_retries
        logger.warning(
            "Shard %s of %s failed (%s)%s",
            item.shard,
            self.description,
            _first(error),
            ": tried again." if again else ".",
        )
        if again:
            self.waiting.appendleft(item)
        else:
            self.failures.append((item, error))


def _gpus_per_worker(options: EngineOptions) -> float:
    from tckr.engine.device import best

    here = best() == "cuda"
    wanted = options.gpus_per_worker
    if wanted is None:
        return float(here)
    if bool(wanted) != here:
        raise UserError(
            f"engine.gpus_per_worker={wanted:g}, and this process computes on a {'GPU' if here else 'CPU'}.",
            "start the command on a machine like the workers' (it trains the models that shards share), or leave"
            " gpus_per_worker out.",
        )
    return wanted


def _import_ray(address: str) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    if _is_loopback(address):
        os.environ.setdefault(ONLY_LOOPBACK, "0")
    try:
        import ray
    except ModuleNotFoundError:
        raise UserError(
            "engine.kind=ray needs Ray, which is not installed.",
            "pip install 'tckr[ray]', or leave engine.kind=local.",
        ) from None
    return ray


def _reach(address: str) -> None:
    """Check that somebody listens at host:port, which Ray would find out in minutes."""
    if address not in ("auto", "local"):
        host, _, port = address.rpartition(":")
        socket.create_connection((host, int(port)), REACH).close()


def _is_loopback(address: str) -> bool:
    return address == "local" or address.rpartition(":")[0] == LOOPBACK


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


def _model() -> str:
    """Return the model of the device that shards are computed on."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if "model name" in line), "CPU")


def _first(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
