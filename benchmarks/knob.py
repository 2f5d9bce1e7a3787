"""Labels are the channel: how much a soft label tells, against what student and released set give away, setting by setting.

    python -m benchmarks.knob --json knob.json     # the shipped sample, a process for each seed, on one GPU
    python -m benchmarks.knob data/01_raw/fashion_mnist_full --json knob.json      # anything that ingestion reads
    python -m benchmarks.knob --rows "on the fly" "T = 2" --seeds 0 --alone
    python -m benchmarks.knob --small     # under a minute on a CPU

A seed trains a teacher, adapts the generator, draws one set of images and trains the teachers of the shadows: once, for all
rows, which differ in the labels alone. A row trains the student, the student that an attacker trains on the set as it is handed
out (`released`: these images, with the labels stored that the row lets out), and both again for every shadow. Recipes and sizes
are those of `conf/base`, on a PATH those of `conf/gpu`. The attack of record is named here: RMIA, scope `distillation`, which
holds the images fixed. `worst` is the AUC in the 1 % of the images that the shadows call most exposed. `recipe` is the mean AUC
over the shadows, each attacked with the others. The best row is chosen by the accuracy on validation images.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.knob_study import DEFAULT, ROWS, Study
from benchmarks.measure import Report, machine

from tckr.engine.device import best

COSTS_AT_MOST = 1.0  # point of accuracy, of the best row
FIGURES = {
    "accuracy": "student %", "AUC_released": "AUC released", "AUC_student": "AUC student", "AOP": "AOP",
    "worst_released": "worst released", "worst_student": "worst student",
    "recipe_released": "recipe released", "recipe_student": "recipe student",
}  # fmt: skip
COLUMNS = {"row": "labels", "seeds": "seeds", **{f"{key}_text": name for key, name in FIGURES.items()}}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Run every seed, beside each other or in this process; print the table and save it."""
    given = _parse(arguments)
    started = time.monotonic()
    report = Report(given.json)
    report.set(**machine(best()), arguments={k: str(v) for k, v in vars(given).items()})
    if given.merge:
        report.merge(given.merge)
    elif given.alone:
        for seed in given.seeds:
            study = Study(given, seed, started)
            report.set(members=len(study.images.members.labels), shadows=given.shadows)
            report.add("rows", study.teacher_row())
            for name in given.rows:
                if not study.fits():
                    break
                report.add("rows", study.row(name))
                if study.device == "cuda":
                    gc.collect()  # captured steps hold each other, and with them memory of the card
    else:
        report.merge(_beside_each_other(given))
    report.set(summary=summary(report.result.get("rows", [])))
    report.set(best=best_row(report.result["summary"]), seconds=time.monotonic() - started)
    title = f"{report.result.get('members', 0):,} members, mean (range) over the seeds"
    report.show(title, "summary", COLUMNS)


def summary(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return mean and range over the seeds of each row's figures; None where one of them was not measured."""
    found = []
    for name in dict.fromkeys(row["row"] for row in rows):
        own = [row for row in rows if row["row"] == name]
        line: dict[str, Any] = {"row": name, "seeds": len(own)}
        for key in (*FIGURES, "validation"):
            values = [row.get(key) for row in own]
            measured = None not in values
            line[key] = float(np.mean(values)) if measured else None
            line[f"{key}_low"] = float(np.min(values)) if measured else None
            line[f"{key}_high"] = float(np.max(values)) if measured else None
            line[f"{key}_text"] = (
                "{:.1f} ({:.1f}-{:.1f})".format(*(line[key + end] for end in ("", "_low", "_high")))
                if measured
                else "not measured"
            )
        found.append(line)
    return found


def best_row(lines: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the row of the largest AOP that costs at most a point of accuracy, both by validation images."""
    by_name = {line["row"]: line for line in lines}
    if DEFAULT not in by_name:
        return None
    least = by_name[DEFAULT]["validation"] - COSTS_AT_MOST
    able = [
        line
        for name, line in by_name.items()
        if name in ROWS and line["AUC_student"] is not None and line["validation"] >= least
    ]
    return max(able, key=lambda line: aop(line["validation"], line["AUC_student"]))["row"]


def aop(accuracy: float, auc: float) -> float:
    """Return accuracy over privacy (arXiv 2306.03054), of percent and percent.

    >>> aop(90.0, 50.0), round(aop(86.2, 58.4), 1)
    (90.0, 63.2)
    """
    return accuracy / max(2 * auc / 100, 1) ** 2


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("images", type=Path, nargs="?", help="the private set and its test split")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--seeds", type=int, nargs="+", help="[0 1 2]")
    parser.add_argument("--shadows", type=int, help="an even number [16]")
    parser.add_argument("--stack", type=int, help="networks that a GPU trains side by side [16]")
    parser.add_argument("--patience", type=float, default=2.0, help="of the students")
    parser.add_argument("--minutes", type=float, default=9.0, help="no row is begun that would end later")  # fmt: skip
    parser.add_argument("--alone", action="store_true", help="one seed after another, in this process")  # fmt: skip
    parser.add_argument("--merge", type=Path, nargs="+", help="results of other calls, joined")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--json", type=Path, help="where to save the result")
    given = parser.parse_args(arguments)
    given.seeds = given.seeds or ([0] if given.small else [0, 1, 2])
    given.shadows = given.shadows or (4 if given.small else 16)
    given.stack = given.stack or (8 if given.images else 16)
    given.alone = given.alone or len(given.seeds) == 1
    if given.json is None and not (given.alone or given.merge):
        parser.error("several processes need --json, beside which they save their own results")
    return given


def _beside_each_other(given: argparse.Namespace) -> list[Path]:
    """Run every seed as a process of its own on the one card, and return the files of those that did anything."""
    given.json.parent.mkdir(parents=True, exist_ok=True)
    own = ["--alone", "--shadows", given.shadows, "--stack", given.stack, "--patience", given.patience,
           "--minutes", given.minutes, "--rows", *given.rows, *["--small"] * given.small]  # fmt: skip
    threads = max(1, (os.cpu_count() or 1) // len(given.seeds))
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TCKR_PROGRESS": "0"}
    parts, running = [], []
    for seed in given.seeds:
        parts.append(given.json.with_suffix(f".{seed}.json"))
        parts[-1].unlink(missing_ok=True)
        command = [sys.executable, "-m", "benchmarks.knob", *([given.images] if given.images else []),
                   *own, "--seeds", seed, "--json", parts[-1]]  # fmt: skip
        running.append(subprocess.Popen([str(word) for word in command], env=environment))  # noqa: S603
    for process in running:
        if process.wait() != 0:
            print("failed:", " ".join(map(str, process.args)), file=sys.stderr)  # type: ignore[arg-type] # noqa: T201
    done = [part for part in parts if part.is_file() and "rows" in json.loads(part.read_text())]
    if not done:
        sys.exit("no process did a row")
    return done


if __name__ == "__main__":
    with torch.random.fork_rng():
        main()
