"""A connection to a Ray cluster, which does shards: one actor per GPU or core.

Through Ray go names and records alone: what workers read and what they make lies in the storage (`tckr.engine.exchange`).
"""

import logging
import os
import socket
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

from tckr.engine.checkpoint import Checkpoints
from tckr.engine.exchange import exchange, leave, send, sweep
from tckr.engine.job import Job, first_line
from tckr.engine.options import EngineOptions
from tckr.engine.tasks import Done, Item, ShardError, Task, shard_error
from tckr.errors import UserError

REACH = 10.0  # seconds in which a cluster must answer
# Bytes of Ray's object store where a cluster is started for a run: nothing large goes there.
OBJECTS = 80 << 20
LOOPBACK = "127.0.0.1"
# Read by Ray when it is imported: a cluster of this machine alone then opens no other address.
ONLY_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


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
                    f"There is no Ray cluster at engine.address={options.address} ({first_line(error)[:200]}).",
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
            sent = send(folder, task)
            job = Job(self.options, self.gpus, self.slots, sent, deque(items), description)
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
