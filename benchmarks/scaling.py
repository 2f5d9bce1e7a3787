"""How long a stage takes on 1 to 1,000 workers: measured times of shards, handed out as `tckr.engine.job` does.

    python -m benchmarks.scaling data/runs/<run>.shards.jsonl --stage "synthetic images" [--shards 1563] [--start 30]
    python -m benchmarks.scaling --seconds 13.3 --shards 1954     # all alike, of a rate measured elsewhere

Each worker takes the next shard when it is free. What limits a stage is then one of three things: the number of its
shards, the time until a worker can start (a process, libraries, the model), and the command itself, which hands out
shards and reads their results one after the other.
"""

import argparse
import heapq
import json
import random
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import Report

WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)


def simulate(shards: Sequence[float], workers: int, start: float, driver: float) -> float:
    """Return the seconds until the last shard is done and read.

    Args:
        shards: seconds of each.
        workers: that take the next shard when they are free.
        start: seconds until a worker takes its first.
        driver: seconds of the command for each shard, one after the other.

    >>> simulate([10.0] * 4, 2, 1.0, 0.0)
    21.0
    >>> simulate([10.0] * 4, 100, 1.0, 0.0)
    11.0
    """
    free = [start] * min(workers, len(shards))
    heapq.heapify(free)
    read = 0.0
    ends = []
    for seconds in shards:
        end = heapq.heappop(free) + seconds
        heapq.heappush(free, end)
        ends.append(end)
    for end in sorted(ends):
        read = max(read, end) + driver
    return read


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table and save it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("log", type=Path, nargs="?", help="<run>.shards.jsonl")
    parser.add_argument("--stage", default="a stage")
    parser.add_argument("--seconds", type=float, help="of every shard, in place of a log")
    parser.add_argument("--shards", type=int, help="as many, drawn of the measured ones")
    parser.add_argument("--start", type=float, default=30.0, help="seconds until a worker works")
    parser.add_argument("--driver", type=float, default=0.01, help="seconds of the command a shard")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    measured = [given.seconds] if given.seconds else _measured(given.log, given.stage)
    if not measured:
        parser.error(f"{given.log} has no shards of {given.stage}: give --stage, or --seconds")
    shards = random.Random(0).choices(measured, k=given.shards or len(measured))
    report = Report(given.json)
    report.set(stage=given.stage, shards=len(shards), mean_s=sum(measured) / len(measured))
    alone = simulate(shards, 1, given.start, given.driver)
    for workers in WORKERS:
        seconds = simulate(shards, workers, given.start, given.driver)
        ratio = alone / seconds
        report.add(
            "workers",
            {
                "workers": workers,
                "hours": seconds / 3600,
                "times_as_fast": ratio,
                "busy": ratio / workers,
                "worker_hours": workers * seconds / 3600,
            },
        )
    columns = {
        "workers": "workers", "hours": "hours", "times_as_fast": "times as fast", "busy": "share of ideal",
        "worker_hours": "worker hours paid",
    }  # fmt: skip
    report.show(f"{len(shards):,} shards of {given.stage}", "workers", columns)


def _measured(log: Path | None, stage: str) -> list[float]:
    """Return the seconds of every shard of a stage."""
    lines = [] if log is None else [json.loads(line) for line in log.read_text().splitlines()]
    return [line["seconds"] for line in lines if line["stage"] == stage]


if __name__ == "__main__":
    main()
