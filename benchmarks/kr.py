"""What each way of using a generator well is worth on all of Fashion-MNIST: kr and tckr, one option after another, and the leak.

    python -m benchmarks.kr data/01_raw/fashion_mnist_full --cache build/kr --json kr.json     # every seed and arm a process
    python -m benchmarks.kr PATH --cache build/kr ...            # again: goes on with the options that there was no time for
    python -m benchmarks.kr PATH --cache build/kr --audit 0 --json leak.json     # then, of what lies in the cache: AUC_MIA
    python -m benchmarks.kr PATH --cache build/kr --arms tckr --seeds 0 --alone --json part.json
    python -m benchmarks.kr --small      # the shipped sample, a minute or two on a CPU

PATH is anything that ingestion reads. 27,500 members, 27,500 holdout, 5,000 validation, 10,000 test images; one split for all
seeds. The rows of an arm add up: the generator's last snapshot (1 x, `patience` 3); the snapshot that short students choose; the
sampling that they tune; the teacher's filter, its threshold tuned too; fresh images every epoch from a pool of 8 x. Everything is
chosen by validation images; the test images are looked at once a row. `minutes` are those of a row's own work on a card that
all its processes share; on a machine with several cards they take turns. A process begins nothing that would not fit into `--minutes`; rows that are done are in its file.
`mixture` draws a third of the last set from the generators of each seed, which learned the same members. The audit attacks the
first and the last row of an arm, or those of `--options`, with shadows that repeat teacher and student on the images held fixed (scope `distillation`).
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from benchmarks.kr_leak import leak
from benchmarks.kr_shared import ARMS, OPTIONS
from benchmarks.kr_study import Study
from benchmarks.measure import Report, machine

from tckr.engine.device import best
from tckr.engine.shards import visible_devices

COLUMNS = {
    "arm": "arm", "option": "with also", "seeds": "seeds", "teacher": "teacher %", "accuracy": "student %", "sd": "sd",
    "gap": "below the teacher", "gap_low": "from", "gap_high": "to", "minutes": "minutes",
}  # fmt: skip
LEAK = {
    "arm": "arm", "option": "with also", "seed": "seed", "accuracy": "accuracy %", "AUC_MIA": "AUC_MIA %", "AUC_MIA_low": "from",
    "AUC_MIA_high": "to", "AOP": "AOP", "shadows": "shadows", "minutes": "minutes",
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Run every seed and arm, beside each other or in this process; print the table and save it."""
    given = _parse(arguments)
    started = time.monotonic()
    report = Report(given.json)
    report.set(**machine(best()), arguments={k: str(v) for k, v in vars(given).items()})
    if given.audit is not None:
        for seed in given.audit:
            for row in leak(given, seed):
                report.add("leak", row)
        report.show("the leak, scope distillation", "leak", LEAK)
        return
    if given.alone:
        for seed in given.seeds:
            for arm in given.arms:
                for row in Study(given, arm, seed, started).rows():
                    report.add("rows", row)
    else:
        report.set(rows=_beside_each_other(given))
    report.set(summary=summary(report.result.get("rows", [])))
    report.set(seconds=time.monotonic() - started)
    report.show("one option after another", "summary", COLUMNS)


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean over the seeds of each arm and option, with the 95 % interval of the mean gap (Student's t)."""
    from scipy import stats

    found = []
    table = pd.DataFrame(rows, columns=None if rows else ["arm", "option"])
    for (arm, option), own in table.groupby(["arm", "option"], sort=False):
        gaps, n = own["teacher"] - own["accuracy"], len(own)
        reach = float(stats.t.ppf(0.975, n - 1) * gaps.std() / n**0.5) if n > 1 else None
        found.append(
            {
                "arm": arm,
                "option": option,
                "seeds": n,
                "teacher": float(own["teacher"].mean()),
                "accuracy": float(own["accuracy"].mean()),
                "sd": float(own["accuracy"].std()) if n > 1 else None,
                "gap": float(gaps.mean()),
                "gap_low": None if reach is None else float(gaps.mean()) - reach,
                "gap_high": None if reach is None else float(gaps.mean()) + reach,
                "minutes": float(own["minutes"].mean()),
            }
        )
    order = {name: place for place, name in enumerate(OPTIONS)}
    return sorted(found, key=lambda row: (row["arm"], order[row["option"]]))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("images", type=Path, nargs="?", help="the private set and its test split")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", type=int, nargs="+", help="[0 1 2]")
    parser.add_argument(
        "--options",
        nargs="+",
        choices=OPTIONS,
        help="beside none [all; to be attacked: the first and the last]",
    )
    parser.add_argument("--generator-steps", type=int, help="of 256 images [2000]")
    parser.add_argument("--snapshots", type=int, help="[4]")
    parser.add_argument(
        "--rate", type=float, default=3e-4, help="learning rate of kr's fine-tuning"
    )
    parser.add_argument(
        "--trials", type=int, help="of the sampling, and half as many of the filter [6]"
    )
    parser.add_argument("--patience", type=float, default=3.0, help="of the students")
    parser.add_argument(
        "--share", type=float, default=0.1, help="of a first student, of the final one"
    )
    parser.add_argument("--slices", type=int, help="of the pool of fresh images [8]")
    parser.add_argument(
        "--scratch", action="store_true", help="kr's denoiser begins with random weights"
    )
    parser.add_argument(
        "--audit",
        type=int,
        nargs="+",
        help="seeds whose sets in the cache are attacked, instead of a run",
    )
    parser.add_argument("--shadows", type=int, default=8)
    parser.add_argument(
        "--stack", type=int, default=8, help="networks that a card trains side by side"
    )
    parser.add_argument("--minutes", type=float, default=9.0, help="of this call")
    parser.add_argument(
        "--compile", action="store_true", help="compile teachers and final students"
    )
    parser.add_argument("--cache", type=Path, help="folder of all processes; holds private images")
    parser.add_argument("--alone", action="store_true", help="one after another in this process")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--json", type=Path, help="where to save the result")
    given = parser.parse_args(arguments)
    small = given.small
    given.seeds = given.seeds or ([0] if small else [0, 1, 2])
    if given.audit is None:
        given.options = [o for o in OPTIONS[1:] if o in (given.options or OPTIONS)]
    given.generator_steps = given.generator_steps or (4 if small else 2000)
    given.snapshots = given.snapshots or (2 if small else 4)
    given.trials = 6 if given.trials is None and not small else given.trials or 2
    given.slices = given.slices or (2 if small else 8)
    given.alone = given.alone or small
    if not (given.alone and given.audit is None) and given.cache is None:
        parser.error("several processes need --cache")
    return given


def _beside_each_other(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Run every seed and arm as a process of its own on the one card, and return the rows of all."""
    given.cache.mkdir(parents=True, exist_ok=True)
    parts, running = [], []
    own = ["--alone", "--generator-steps", given.generator_steps, "--snapshots", given.snapshots, "--trials", given.trials,
           "--slices", given.slices, "--rate", given.rate, "--patience", given.patience, "--share", given.share, "--minutes",
           given.minutes, "--cache", given.cache, "--options", *given.options]  # fmt: skip
    own += ["--compile"] * given.compile + ["--scratch"] * given.scratch
    cards = visible_devices()
    for seed in given.seeds:
        for arm in given.arms:
            part = given.cache / f"part-{arm}-{seed}.json"
            part.unlink(missing_ok=True)
            command = [sys.executable, "-m", "benchmarks.kr", *([given.images] if given.images else []), *own,
                       "--arms", arm, "--seeds", seed, "--json", part]  # fmt: skip
            threads = max(1, (os.cpu_count() or 1) // (len(given.seeds) * len(given.arms)))
            environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TCKR_PROGRESS": "0"}
            if len(cards) > 1:
                environment["CUDA_VISIBLE_DEVICES"] = cards[len(parts) % len(cards)]
            parts.append(part)
            running.append(subprocess.Popen([str(word) for word in command], env=environment))  # noqa: S603
    failed = [process.args for process in running if process.wait() != 0]
    for command in failed:
        print("failed:", " ".join(map(str, command)), file=sys.stderr)  # noqa: T201
    read = [json.loads(part.read_text()) for part in parts if part.is_file()]
    return [row for part in read for row in part.get("rows", [])]


if __name__ == "__main__":
    main()
