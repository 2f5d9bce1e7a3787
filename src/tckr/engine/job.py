"""The shards of one task under way on a Ray cluster: handed to whoever is free, and tried elsewhere where a worker dies or fails."""

import logging
import os
import pickle
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from tckr.engine.code import code_state
from tckr.engine.exchange import Sent
from tckr.engine.options import EngineOptions
from tckr.engine.processes import died
from tckr.engine.scratch import VARIABLE
from tckr.engine.tasks import WORKER_ENVIRONMENT, Item, Record, ShardError, shard_error
from tckr.engine.worker import Worker, device_model
from tckr.errors import user_error

LOOK = 2.0  # seconds between two looks at which nodes there are
UNBORN = 3  # workers that may die as they start, one after the other, beside the retries

logger = logging.getLogger(__name__)


@dataclass
class Job:
    """Some shards of one task under way: which worker does which, what failed where, who is to be replaced.

    Attributes:
        options: of the engine.
        gpus: of one worker.
        slots: returns how many workers the nodes that are alive can hold.
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

    options: EngineOptions
    gpus: float
    slots: Callable[[], int]
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

        self.models = {device_model()}
        looked, slots = -LOOK, 0
        while not self.stopped and (self.waiting or self._under_way()):
            if time.monotonic() - looked > LOOK:  # nodes join and leave
                looked, slots = time.monotonic(), self.slots()
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
                    logger.warning(
                        "A worker was lost in %s (%s).", self.description, first_line(lost)
                    )
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
            "num_cpus": self.options.cpus_per_worker,
            "num_gpus": self.gpus,
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
        if self.unborn > self.options.max_retries + UNBORN:
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
        again = self.tries[item.number] <= self.options.max_retries
        logger.warning(
            "Shard %s of %s failed (%s)%s",
            item.shard,
            self.description,
            first_line(error),
            ": tried again." if again else ".",
        )
        if again:
            self.waiting.appendleft(item)
        else:
            self.failures.append((item, error))


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its kind."""
    return (str(error).splitlines() or [type(error).__name__])[0]
