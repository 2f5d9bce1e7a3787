"""Kill runs with SIGKILL at random moments, at every stage and inside writes; resume each; compare with a run left alone.

    PYTHONPATH=src python scripts/kill_test.py --random=20 --report=kills.md

Works in a temporary folder, on a copy of the package, with tiny models and the environment `test`. A trial passes if the
command with `resume=last` ends with the figures of the undisturbed run to the digit, the same student and recycled set
byte for byte, no process left over, nothing half-written and no run that still says it is running.
"""

import argparse
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from tckr.lineage import Manifest, Runs, hash_files  # noqa: E402
from tiny import make_images, make_project  # noqa: E402  of the tests

DATA = "data/test"
SMALL = "privacy_audit.scope=distillation,privacy_audit.attribution=false,privacy_audit.n_shadows=4"
SEVERAL = "privacy_audit.workers=2"
MARK = "TCKR_KILL_TEST"  # environment variable by which a trial's processes are found
COMPARED = ("metrics", "student", "recycled_set")
STAGES = (
    "ingestion",
    "captioning",
    "generator_adaptation",
    "knowledge_recycling",
    "student_training",
    "privacy_audit",
)
WRITES = ("images", "captions.parquet", "teacher_recipe.json", "adapter", "student", "metrics.json")
# Run Kedro, and die as by SIGKILL at the moment in which the artefact of that name would get its name.
DIE_WRITING = """\
import os, pathlib, signal, sys
name = sys.argv.pop(1)
def deadly(move):
    def moved(source, target, *rest):
        if pathlib.Path(target).name == name:
            os.kill(os.getpid(), signal.SIGKILL)
        return move(source, target, *rest)
    return moved
pathlib.Path.rename = deadly(pathlib.Path.rename)
pathlib.Path.replace = deadly(pathlib.Path.replace)
from kedro.framework.cli import main
sys.argv[0] = "kedro"
main()
"""


# What a trial is called, how its run is killed, when, and further parameters of its runs.
Attempt = tuple[str, Callable[..., float], float | str, tuple[str, ...]]


@dataclass(frozen=True)
class Trial:
    """What was killed when, and how its resumption ended."""

    killed: str
    at: float
    taken: int
    again: int
    seconds: float
    faults: tuple[str, ...]


class Project:
    """A tiny project whose runs are killed."""

    def __init__(self, folder: Path, parameters: str) -> None:
        """Args: folder: empty. parameters: of every run, as `--params` takes them."""
        self.parameters = parameters
        self.source = shutil.copytree(
            ROOT / "src", folder / "src"
        )  # edits meanwhile are other code
        images = make_images(folder / "private", 240)
        (folder / "project").mkdir()
        self.folder = make_project(folder / "project", images)
        self.runs = Runs(self.folder / DATA / "runs")

    def start(self, trial: str, *more: str, dying: str | None = None) -> "subprocess.Popen[str]":
        """Start a run; its output goes to `run.log`."""
        parameters = ",".join([self.parameters, *more])
        kedro = ["-c", DIE_WRITING, dying] if dying else ["-m", "kedro"]
        environment = {
            **os.environ,
            MARK: trial,
            "PYTHONPATH": str(self.source),
            "OMP_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
            "KEDRO_DISABLE_TELEMETRY": "1",
        }
        with (self.folder / "run.log").open("w") as log:
            return subprocess.Popen(  # noqa: S603
                [sys.executable, *kedro, "run", "--env=test", f"--params={parameters}"],
                cwd=self.folder,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
            )

    def log(self) -> str:
        """What the last run said."""
        return (self.folder / "run.log").read_text()

    def finish(self, trial: str, *more: str) -> Manifest:
        """Run to the end and return the run's manifest."""
        if self.start(trial, *more).wait(900) != 0:
            raise RuntimeError(f"{trial}: the run failed\n{self.log()[-3000:]}")
        return self.runs.newest_first()[0]

    def hashes(self, run: Manifest) -> dict[str, str]:
        """Hashes of what has to be the same after every trial."""
        view = run.view()
        return {name: hash_files(self.folder / view[name].path) for name in COMPARED}

    def forget(self) -> None:
        """Remove everything that runs left, but for MLflow's database."""
        shutil.rmtree(self.folder / DATA, ignore_errors=True)


def faults_of(
    project: Project, trial: str, run: Manifest, expected: dict[str, str]
) -> Iterator[str]:
    """Yield what is wrong after a resumed run."""
    for name, known in expected.items():
        if project.hashes(run)[name] != known:
            yield f"other {name}"
    yield from (f"orphan {one}" for one in orphans(trial))
    data = project.folder / DATA
    hidden = [path for path in data.rglob(".*") if path.is_file() or "-" in path.name]
    kept = [path for path in (data / "02_intermediate").rglob("*") if path.is_file()]
    yield from (f"left over: {path.relative_to(data)}" for path in hidden + kept)
    for manifest in project.runs.newest_first():
        if manifest.status == "running":
            yield f"run {manifest.run} still says it is running"
        for entry, made in manifest.artefacts.items():
            if not (project.folder / made.path).exists():
                yield f"{entry} of run {manifest.run} is gone"
    recorded = {one.path for m in project.runs.newest_first() for one in m.artefacts.values()}
    for version in data.glob("0[3-8]_*/**/*Z/*"):
        path = version.relative_to(project.folder).as_posix()
        if path not in recorded and version.parent.parent.name == version.name:
            yield f"unrecorded: {path}"
    with closing(sqlite3.connect(project.folder / "mlflow.db")) as database:
        (count,) = database.execute("select count(*) from runs where status = 'RUNNING'").fetchone()
    if count:
        yield f"{count} MLflow runs still say they are running"


def orphans(trial: str) -> list[int]:
    """Processes of a trial that outlived it by more than three seconds."""
    until = time.monotonic() + 3
    while found := [one.pid for one in psutil.process_iter() if _mark(one) == trial]:
        if time.monotonic() > until:
            return found
        time.sleep(0.2)
    return []


def _mark(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(MARK)
    except (psutil.Error, OSError):
        return None


def kill_after(project: Project, trial: str, seconds: float, *more: str) -> float:
    """Kill a run after so many seconds; return how long it lived."""
    began, process = time.monotonic(), project.start(trial, *more)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
    return time.monotonic() - began


def kill_at(project: Project, trial: str, stage: str, *more: str) -> float:
    """Kill a run as the first line of a stage appears; return how long it lived."""
    began, process = time.monotonic(), project.start(trial, *more)
    while process.poll() is None and f"INFO     {stage}." not in project.log():
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return time.monotonic() - began


def kill_working(project: Project, trial: str, workers: int, *more: str) -> float:
    """Kill a run once it has started so many worker processes; return how long it lived."""
    began, process = time.monotonic(), project.start(trial, *more)
    parent = psutil.Process(process.pid)
    while process.poll() is None and len(parent.children()) < workers:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return time.monotonic() - began


def kill_writing(project: Project, trial: str, name: str, *more: str) -> float:
    """Let a run die inside the write of an artefact; return how long it lived."""
    began, process = time.monotonic(), project.start(trial, *more, dying=name)
    if process.wait(900) != -signal.SIGKILL:
        raise RuntimeError(f"{trial}: the run was to die and did not\n{project.log()[-3000:]}")
    return time.monotonic() - began


def trials(random_kills: int, seed: int, duration: float) -> Iterator[Attempt]:
    """Yield what each trial is called, how its run is killed and when, and further parameters of its runs."""
    yield "with two workers", kill_working, 2, (SEVERAL,)
    for name in WRITES:
        yield f"writing {name}", kill_writing, name, ()
    draw = random.Random(seed)
    for _ in range(random_kills):
        seconds = draw.uniform(0, duration)
        yield f"after {seconds:.1f} s", kill_after, seconds, ()
    for stage in STAGES:
        yield f"as {stage} begins", kill_at, stage, ()


def run_trial(project: Project, attempt: Attempt, expected: dict[str, str]) -> Trial:
    """Kill one run, resume it, and look for faults."""
    name, kill, when, more = attempt
    project.forget()
    trial = name.replace(" ", "_")
    lived = kill(project, trial, when, *more)
    dead = {one.run: one for one in project.runs.newest_first()}
    faults = [f"orphan {one} after the kill" for one in orphans(trial)]
    began = time.monotonic()
    run = project.finish(trial, *more, "resume=last")
    taken = sum(one.run != run.run for one in run.artefacts.values())
    again = sum(
        one.run == run.run and any(entry in other.artefacts for other in dead.values())
        for entry, one in run.artefacts.items()
        if entry != "report"
    )
    faults += faults_of(project, trial, run, expected)
    return Trial(name, lived, taken, again, time.monotonic() - began, tuple(faults))


def table(done: list[Trial], duration: float) -> str:
    """Lay the trials below each other."""
    lines = [
        f"Undisturbed: {duration:.0f} s. Passed: {sum(not one.faults for one in done)} of {len(done)}.",
        "",
        "| killed | after s | taken up | made again | resumed in s | faults |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for one in done:
        faults = "; ".join(one.faults) or "none"
        lines.append(
            f"| {one.killed} | {one.at:.1f} | {one.taken} | {one.again} | {one.seconds:.1f} | {faults} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run all trials and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--random", type=int, default=20, help="kills at random moments")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--params", default=SMALL, help="parameters of every run")
    parser.add_argument(
        "--report", type=Path, help="Markdown file for the table, written as it grows"
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tckr-kills-") as folder:
        project = Project(Path(folder), given.params)
        project.finish("first")  # makes MLflow's database
        project.forget()
        began = time.monotonic()
        expected = project.hashes(project.finish("undisturbed"))
        duration = time.monotonic() - began
        done: list[Trial] = []
        for attempt in trials(given.random, given.seed, duration):
            try:
                done.append(run_trial(project, attempt, expected))
            except RuntimeError as error:
                said = " ".join(str(error).split())[-300:]
                done.append(Trial(attempt[0], 0, 0, 0, 0, (said,)))
            text = table(done, duration)
            if given.report:
                given.report.write_text(text)
    print(text)  # noqa: T201
    sys.exit(any(one.faults for one in done))


if __name__ == "__main__":
    main()
