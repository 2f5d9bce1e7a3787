"""What map_shards promises, whatever runs the shards: this process, several, or the workers of a Ray cluster."""

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

import shards
from tckr.cli import explain
from tckr.engine import EngineOptions, ShardError, map_shards, slots, stream_shards, use_engine
from tckr.engine.checkpoint import Checkpoints
from tckr.engine.rows import Shared
from tckr.errors import Paused, user_error


class Engine(NamedTuple):
    """Runs shards, with two workers unless all runs in this process."""

    kind: str
    workers: int
    log: Path
    storage: Path | None

    def map(self, function: Callable[..., Any], shards: Any, **more: Any) -> list[Any]:
        return map_shards(function, shards, self.workers, "painting", **more)

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture(params=["here", "processes", "ray"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """Each engine in turn."""
    kind, log, storage = request.param, tmp_path / "shards.jsonl", None
    options = EngineOptions()
    if kind == "ray":
        cluster = request.getfixturevalue("cluster")
        storage = tmp_path / "storage"
        options = EngineOptions(
            kind="ray", address=cluster.address, max_retries=1, storage=str(storage)
        )
    with ExitStack() as stack:
        stack.enter_context(use_engine(options, log))
        yield Engine(kind, 1 if kind == "here" else 2, log, storage)
    if storage is not None:
        assert not storage.exists() or not list(storage.iterdir())  # nothing is left behind


def test_results_come_in_the_order_of_the_shards(engine: Engine):
    shared = {"rows": Shared(torch.arange(5)) if engine.workers > 1 else torch.arange(5)}
    found = engine.map(shards.scaled, [0, 1, 2, 3], shared=shared)
    assert [(shard, value) for shard, value, _ in found] == [(i, 10.0 * i) for i in range(4)]
    if engine.workers > 1:
        assert {threads for *_, threads in found} == {1}


def test_a_shard_draws_the_same_numbers_whoever_does_it(engine: Engine):
    found = engine.map(shards.noise, [0, 1, 2])
    assert torch.equal(torch.stack(found), torch.stack([shards.noise(i) for i in range(3)]))


def test_an_error_names_its_shard(engine: Engine):
    with pytest.raises(ShardError, match="shard bad one failed: ValueError: no good"):
        engine.map(shards.picky, ["fine", "bad one", "other"])
    with pytest.raises(ShardError, match="UnpicklableError: this and that"):
        engine.map(shards.raises_unpicklable, [0, 1])


def test_what_the_user_should_read_is_the_same_line_everywhere(engine: Engine):
    for function, line in (
        (shards.needs_more, "photos.csv is empty. Remedy: list one image per row."),
        (shards.wraps, "photos.csv is empty. Remedy: list one image per row."),
        (shards.pauses, str(Paused("painter", 3, 1000))),
    ):
        with pytest.raises(ShardError, match="shard 1 failed") as failure:
            engine.map(function, [0, 1, 2])
        assert explain(failure.value) == line
        if function is shards.pauses:
            paused = user_error(failure.value)
            assert isinstance(paused, Paused)
            assert (paused.done, paused.steps) == (3, 1000)


def test_a_finished_shard_is_never_done_again(engine: Engine, tmp_path: Path):
    marks, keep = tmp_path / "marks", Checkpoints(tmp_path / "kept")
    marks.mkdir()
    with pytest.raises(ShardError, match="shard 3 failed"):
        engine.map(shards.counted, [0, 1, 2, 3], shared=marks, keep=keep)
    finished = keep.parts()
    assert "3" not in finished
    if engine.kind != "processes":  # there, what was under way was stopped
        assert finished == {"0", "1", "2"}
    before = {mark.name for mark in marks.iterdir()}
    (marks / "mended").touch()
    found = engine.map(shards.counted, [3, 2, 1, 0], shared=marks, keep=keep)
    assert [tensor.tolist() for tensor in found] == [[3, 3], [2, 2], [1, 1], [0, 0]]
    new = {mark.name.split("-")[0] for mark in marks.iterdir() if mark.name not in before}
    assert new == {"mended", *({"0", "1", "2", "3"} - finished)}
    saved = keep.of("2").load({"shard": "2"})
    assert saved is not None
    assert saved["record"]["host"] == socket.gethostname()


def test_two_shards_of_one_name_are_not_kept(engine: Engine, tmp_path: Path):
    with pytest.raises(ValueError, match="one name"):
        engine.map(shards.noise, [1, 1], keep=Checkpoints(tmp_path))


def test_every_shard_of_a_worker_has_a_record(engine: Engine):
    engine.map(shards.noise, [4, 5])
    if engine.kind == "here":  # a part of something larger, or a trial
        assert not engine.log.exists()
        return
    records = sorted(engine.records(), key=lambda record: record["shard"])
    assert [(r["stage"], r["shard"], r["tries"]) for r in records] == [
        ("painting", "4", 1),
        ("painting", "5", 1),
    ]
    assert {(r["host"], r["device"]) for r in records} == {(socket.gethostname(), "cpu")}
    assert all(r["seconds"] >= 0 for r in records)
    if engine.kind == "ray":
        assert slots() == 2
        assert os.getpid() not in {r["process"] for r in records}


def test_results_are_handed_on_as_they_come(engine: Engine, tmp_path: Path):
    found = []
    for result in stream_shards(
        shards.waits_for_a_file, [0, 1, 2], engine.workers, "painting", shared=tmp_path
    ):
        (tmp_path / "first").touch()
        found.append(result)
    assert found == [0, 1, 2]
