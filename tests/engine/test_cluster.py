"""What a Ray cluster loses, and what becomes of its shards."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clusters import add_node
from tckr.engine import EngineOptions, ShardError, map_shards, use_engine
from tckr.engine.checkpoint import Checkpoints
from tckr.errors import UserError, user_error


def options(cluster: Any, **more: Any) -> EngineOptions:
    return EngineOptions(kind="ray", address=cluster.address, **more)


def wait_for(condition: Any, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened in time"
        time.sleep(0.1)


def process_ids(folder: Path) -> Iterator[int]:
    for mark in folder.glob("*-*"):
        yield int(mark.name.split("-")[1])


def lingers(shard: int, folder: Path) -> int:
    """Say who does the shard, and take so long that somebody else can be killed meanwhile."""
    (folder / f"{shard}-{os.getpid()}").touch()
    time.sleep(2 if (folder / "gone").exists() else 4)
    return shard * shard


def test_the_shard_of_a_killed_worker_is_done_by_another(cluster: Any, tmp_path: Path):
    def kill() -> None:
        wait_for(lambda: len(list(process_ids(tmp_path))) == 2)
        (tmp_path / "gone").touch()
        os.kill(next(process_ids(tmp_path)), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    with use_engine(options(cluster), tmp_path / "log"):
        killer.start()
        found = map_shards(lingers, [0, 1, 2, 3], 2, shared=tmp_path)
    killer.join()
    assert found == [0, 1, 4, 9]
    tries = sorted(line.split('"tries": ')[1][0] for line in (tmp_path / "log").open())
    assert tries == ["1", "1", "1", "2"]  # only the shard that was under way is done again


def dies(shard: int, folder: Path) -> int:
    (folder / f"{shard}-{os.getpid()}").touch()
    if shard == 1:
        os._exit(9)
    return shard


def test_a_shard_that_kills_every_worker_is_named_once_the_others_are_done(
    cluster: Any, tmp_path: Path
):
    keep = Checkpoints(tmp_path / "kept")
    with (
        use_engine(options(cluster, max_retries=1)),
        pytest.raises(ShardError, match="shard 1 failed") as failure,
    ):
        map_shards(dies, [0, 1, 2, 3], 2, "painting", shared=tmp_path, keep=keep)
    assert keep.parts() == {"0", "2", "3"}
    said = user_error(failure.value)
    assert said is not None
    assert "died in painting" in str(said)
    assert len(list(tmp_path.glob("1-*"))) == 2  # once, and one retry


def fails_in_one_place(shard: int, folder: Path) -> int:
    """Fail in the first process that tries, as where a GPU is out of memory."""
    mine = folder / f"{shard}-{os.getpid()}"
    mine.touch()
    time.sleep(1)  # all workers get a shard
    if shard == 0 and len(list(folder.glob("0-*"))) == 1:
        raise RuntimeError("CUDA out of memory")
    return shard


def test_a_shard_that_failed_is_tried_on_another_worker(cluster: Any, tmp_path: Path):
    with use_engine(options(cluster)):
        found = map_shards(fails_in_one_place, [0, 1, 2, 3], 2, shared=tmp_path)
    assert found == [0, 1, 2, 3]
    assert len(list(tmp_path.glob("0-*"))) == 2  # two processes


def test_a_node_that_leaves_and_one_that_joins(cluster: Any, tmp_path: Path):
    """Kill a node outright in the middle of its shard; another one, started meanwhile, takes part."""
    doomed = add_node(cluster)

    def kill() -> None:
        wait_for(lambda: len(list(process_ids(tmp_path))) >= 3)
        (tmp_path / "gone").touch()
        cluster.remove_node(doomed, allow_graceful=False)

    killer = threading.Thread(target=kill)
    with use_engine(options(cluster)):
        killer.start()
        found = map_shards(lingers, list(range(8)), 2, shared=tmp_path)
    killer.join()
    assert found == [i * i for i in range(8)]
    assert (
        len(list(tmp_path.glob("*-*"))) <= 9
    )  # at most the shard that was under way is done again


def test_what_does_not_fit_the_cluster_is_said_before_anything_runs(cluster: Any, tmp_path: Path):
    with (
        pytest.raises(UserError, match="No node of the Ray cluster"),
        use_engine(options(cluster, cpus_per_worker=64)),
    ):
        pass
    with (
        pytest.raises(UserError, match="gpus_per_worker"),
        use_engine(options(cluster, gpus_per_worker=1)),
    ):
        pass


def test_storage_that_workers_cannot_read_is_named(cluster: Any, tmp_path: Path):
    """memory:// is one of every process by itself."""
    with (
        use_engine(options(cluster, storage="memory://shards")),
        pytest.raises(ShardError) as failure,
    ):
        map_shards(dies, [0, 2], 2, shared=tmp_path)
    assert "engine.storage" in str(user_error(failure.value))
