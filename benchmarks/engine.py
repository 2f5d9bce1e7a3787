"""What handing out shards costs: in this process, in processes, and on a Ray cluster of this machine.

    python -m benchmarks.engine [--shards 1000] [--growth 1000 100000] [--json result.json]
    python -m benchmarks.engine --small           # a few shards

A shard does nothing but return its number, so that all the time is the engine's. The memory is that of this process, which
hands out the shards and reads their results one by one; it is read once half of them and once all are done.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
from benchmarks.measure import Report, machine

from tckr.engine import EngineOptions, stream_shards, use_engine

ENGINES = ("here", "processes", "ray")
MIB = 1 << 20


def nothing(shard: int) -> int:
    """Return the shard."""
    return shard


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all engines, then the growth of memory on the cluster."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shards", type=int, default=1000)
    parser.add_argument("--growth", type=int, nargs="*", default=[1000, 100_000])
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--small", action="store_true")
    given = parser.parse_args(arguments)
    if given.small:
        given.shards, given.growth = 20, [20, 40]
    report = Report(given.json)
    report.set(**machine("cpu"), cores=os.cpu_count(), workers=given.workers)
    with ExitStack() as stack:
        storage = stack.enter_context(tempfile.TemporaryDirectory())
        for engine in ENGINES:
            options = EngineOptions()
            if engine == "ray":
                options = EngineOptions(kind="ray", address="local", storage=storage)
            start = time.perf_counter()
            stack.enter_context(use_engine(options))
            connected = time.perf_counter() - start
            workers = 1 if engine == "here" else max(2, given.workers)
            for count in dict.fromkeys((workers, given.shards)):
                report.add(
                    "overhead", {"engine": engine, "connect_s": connected, **run(count, workers)}
                )
        for count in given.growth:  # on the cluster
            report.add("growth", run(count, max(2, given.workers)))
    columns = {
        "engine": "engine", "shards": "shards", "connect_s": "connect s", "first_s": "first result s",
        "seconds": "all s", "ms_a_shard": "ms a shard after the first",
    }  # fmt: skip
    report.show("engines", "overhead", columns)
    grown = {"shards": "shards", "half_mib": "MiB at half", "end_mib": "MiB at the end"}
    report.show("memory of the process that hands out shards, Ray", "growth", grown)


def run(count: int, workers: int) -> dict[str, Any]:
    """Time so many empty shards."""
    memory: dict[str, float] = {}
    start = time.perf_counter()
    first = 0.0
    from benchmarks.engine import nothing as work  # workers of a cluster cannot import a script

    for number in stream_shards(work, range(count), workers):
        first = first or time.perf_counter() - start
        if number in (count // 2, count - 1):
            memory["half_mib" if number == count // 2 else "end_mib"] = resident()
    seconds = time.perf_counter() - start
    each = 1000 * (seconds - first) / max(1, count - 1)
    return {"shards": count, "first_s": first, "seconds": seconds, "ms_a_shard": each, **memory}


def resident() -> float:
    """Return the memory of this process, MiB."""
    return float(psutil.Process().memory_info().rss / MIB)


if __name__ == "__main__":
    main()
