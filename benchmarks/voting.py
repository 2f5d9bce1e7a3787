"""The vote of private images for candidates: seconds and memory by their numbers, which both should be linear.

    python -m benchmarks.voting [--images 10000 20000 40000] [--candidates 1000 2000 4000] [--features 128] [--json PATH]
    python -m benchmarks.voting --small

A row doubles the images, then the candidates. `per pair` is nanoseconds a pair of image and candidate: the same in every row
where cost is linear in both. Memory is what the search takes beside the features themselves: blocks bound it, whatever the numbers.
"""

import argparse
import resource
from collections.abc import Sequence
from pathlib import Path

import torch
from benchmarks.measure import Report, machine, measure

from tckr.dp.voting import BLOCK, nearest
from tckr.engine.device import best

COLUMNS = {
    "images": "images", "candidates": "candidates", "features": "features", "seconds": "seconds", "per_pair": "per pair, ns",
    "block_mib": "a block, MiB", "grown_mib": "memory grown, MiB",
}  # fmt: skip
REPEATS = 3


def main(arguments: Sequence[str] | None = None) -> None:
    """Search in sets of growing size, print the table and save it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", help="[10000 20000 40000]")
    parser.add_argument("--candidates", type=int, nargs="+", help="[1000 2000 4000]")
    parser.add_argument("--features", type=int, default=128)
    parser.add_argument("--block", type=int, default=BLOCK, help="images and candidates at a time")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--json", type=Path, help="where to save the result")
    given = parser.parse_args(arguments)
    sizes = given.images or ([500, 1000] if given.small else [10_000, 20_000, 40_000])
    counts = given.candidates or ([100, 200] if given.small else [1000, 2000, 4000])
    report = Report(given.json)
    report.set(**machine(best()), block=given.block, repeats=REPEATS)
    for images in sizes:
        report.add("rows", row(images, counts[0], given.features, given.block))
    for candidates in counts[1:]:
        report.add("rows", row(sizes[-1], candidates, given.features, given.block))
    report.show("Nearest candidates", "rows", COLUMNS)


def row(images: int, candidates: int, features: int, block: int) -> dict[str, float]:
    """Time one search, the best of a few."""
    draw = torch.Generator().manual_seed(0)
    voters = torch.randn(images, features, generator=draw).to(best())
    others = torch.randn(candidates, features, generator=draw).to(best())
    nearest(voters[:block], others, block)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    costs = [measure(lambda: nearest(voters, others, block))[1] for _ in range(REPEATS)]
    seconds = min(cost.seconds for cost in costs)
    on_card = costs[0].device_peak_gib
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    return {
        "images": images, "candidates": candidates, "features": features, "seconds": seconds,
        "per_pair": 1e9 * seconds / images / candidates, "block_mib": 4 * block * min(block, candidates) / 2**20,
        "grown_mib": grown if on_card is None else 1024 * on_card,
    }  # fmt: skip


if __name__ == "__main__":
    main()
