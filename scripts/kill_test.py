"""Kill runs with SIGKILL at random moments, at every stage and inside writes; resume each; compare with a run left alone.

    PYTHONPATH=src python scripts/kill_test.py --random=20 --report=kills.md

Works in a temporary folder with tiny models and the environment `test`; the package must not be edited meanwhile, since
runs of other code are not resumed. A trial passes if the command with `resume=last` ends with the figures of the
undisturbed run to the digit, the same student and recycled set byte for byte, no process left over, nothing half-written
and no run that still says it is running.
"""

import argparse
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import NoReturn

import psutil

ROOT = Path(__file__).parents[1]
os.environ["OMP_NUM_THREADS"] = "1"  # a process with several threads of torch cannot be forked
os.environ["KEDRO_LOGGING_CONFIG"] = str(ROOT / "conf/logging.yml")
sys.path.insert(0, str(ROOT / "tests"))

from kedro.framework.startup import bootstrap_project  # noqa: E402

from tckr.lineage import Manifest, Runs, hash_files  # noqa: E402
from tiny import make_images, make_project  # noqa: E402  of the tests

DATA = "data/test"
SMALL = "privacy_audit.scope=distillation,privacy_audit.attribution=false,privacy_audit.n_shadows=4"
SEVERAL = "privacy_audit.workers=2"
COMPARED = ("metrics", "student", "recycled_set")
# Every run needs them, and their import takes longer than anything that a tiny run does.
PRELOADED = (
    *("kedro_mlflow.framework.hooks.mlflow_hook", "datasets", "matplotlib.pyplot", "peft"),
    *("diffusers.pipelines.stable_diffusion", "transformers.models.blip_2", "scipy.stats"),
    *("tckr.diffusion.lora", "tckr.text.captioner", "tckr.text.clip", "tckr.audit.shadow_models"),
)
STAGES = (
    "ingestion",
    "captioning",
    "generator_adaptation",
    "knowledge_recycling",
    "student_training",
    "privacy_audit",
)
WRITES = ("images", "captions.parquet", "teacher_recipe.json", "adapter", "student", "metrics.json")
# What a trial is called, how its run is killed, when, and further parameters of its runs.
Attempt = tuple[str, Callable[..., None], float | str, tuple[str, ...]]


@dataclass(frozen=True)
class Trial:
    """What was killed when, and how its resumption ended."""

    killed: str
    at: float
    taken: int
    again: int
    seconds: float
    faults: tuple[str, ...]


class Run:
    """A run in a process of its own, forked off this one, which has the libraries loaded already."""

    def __init__(self, folder: Path, parameters: str, dying: str | None) -> None:
        """Args: folder: the project. parameters: as `--params` takes them. dying: artefact whose writing kills it."""
        self.code: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()  # its workers belong to the same session, even when it is gone
            _be_kedro(folder, parameters, dying)

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal, or None while it runs."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code

    def wait(self, seconds: float = 900) -> int | None:
        """Wait for the end, or so long."""
        until = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        return self.code

    def kill(self) -> None:
        """Kill the process itself, not its workers."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()

    def left(self) -> list[int]:
        """Processes of this run that outlive it by more than half a minute."""
        until = time.monotonic() + 30
        while found := [one.pid for one in psutil.process_iter() if _session(one) == self.pid]:
            if time.monotonic() > until:
                return found
            time.sleep(0.2)
        return []


def _session(process: psutil.Process) -> int | None:
    try:
        return None if process.status() == psutil.STATUS_ZOMBIE else os.getsid(process.pid)
    except (psutil.Error, OSError):
        return None


def _be_kedro(folder: Path, parameters: str, dying: str | None) -> NoReturn:
    """Run the pipeline and exit, as `kedro run` does; print to `run.log`."""
    code = 1
    try:
        log = os.open(folder / "run.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(log, stream)
        os.chdir(folder)
        if dying:
            die_writing(dying)
        arguments = ["--env=test", f"--params={parameters}"]
        sys.argv = ["kedro", "run", *arguments]
        from tckr.cli import run

        run.main(arguments, obj=bootstrap_project(folder), standalone_mode=False)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def die_writing(name: str) -> None:
    """Let this process die, as by SIGKILL, when the artefact of that name has been written and is to get its name."""

    def deadly(move: Callable[..., Path]) -> Callable[..., Path]:
        def moved(source: Path, target: Path) -> Path:
            if Path(target).name == name:
                os.kill(os.getpid(), signal.SIGKILL)
            return move(source, target)

        return moved

    Path.rename, Path.replace = deadly(Path.rename), deadly(Path.replace)  # type: ignore[method-assign]


class Project:
    """A tiny project whose runs are killed."""

    def __init__(self, folder: Path, parameters: str) -> None:
        """Args: folder: empty. parameters: of every run, as `--params` takes them."""
        self.parameters = parameters
        images = make_images(folder / "private", 240)
        (folder / "project").mkdir()
        self.folder = make_project(folder / "project", images)
        self.runs = Runs(self.folder / DATA / "runs")

    def start(self, *more: str, dying: str | None = None) -> Run:
        """Start a run; its output goes to `run.log`."""
        (self.folder / "run.log").write_text("")
        return Run(self.folder, ",".join([self.parameters, *more]), dying)

    def log(self) -> str:
        """What the last run said."""
        return (self.folder / "run.log").read_text()

    def finish(self, *more: str) -> Manifest:
        """Run to the end and return the run's manifest."""
        run = self.start(*more)
        if run.wait() != 0:
            raise RuntimeError(f"the run failed: {self.log()[-3000:]}")
        if left := run.left():
            raise RuntimeError(f"processes outlive their run: {left}")
        return self.runs.newest_first()[0]

    def hashes(self, run: Manifest) -> dict[str, str]:
        """Hashes of what has to be the same after every trial."""
        view = run.view()
        return {name: hash_files(self.folder / view[name].path) for name in COMPARED}

    def forget(self) -> None:
        """Remove everything that runs left, but for MLflow's database."""
        shutil.rmtree(self.folder / DATA, ignore_errors=True)


def faults_of(project: Project, run: Manifest, expected: dict[str, str]) -> Iterator[str]:
    """Yield what is wrong after a resumed run."""
    found = project.hashes(run)
    yield from (f"other {name}" for name, known in expected.items() if found[name] != known)
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


def kill_after(run: Run, project: Project, seconds: float) -> None:
    """Kill a run after so many seconds."""
    run.wait(seconds)


def kill_at(run: Run, project: Project, stage: str) -> None:
    """Kill a run as the first line of a stage appears."""
    while run.poll() is None and f"INFO     {stage}." not in project.log():
        time.sleep(0.02)


def kill_working(run: Run, project: Project, workers: int) -> None:
    """Kill a run once it has started so many worker processes."""
    while run.poll() is None and len(psutil.Process(run.pid).children()) < workers:
        time.sleep(0.02)


def kill_writing(run: Run, project: Project, name: str) -> None:
    """Let a run die inside the write of an artefact."""
    if run.wait() != -signal.SIGKILL:
        raise RuntimeError(f"the run was to die writing {name}: {project.log()[-3000:]}")


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
    began = time.monotonic()
    run = project.start(*more, dying=str(when) if kill is kill_writing else None)
    kill(run, project, when)
    run.kill()
    lived = time.monotonic() - began
    faults = [f"process {pid} outlives the kill" for pid in run.left()]
    dead = project.runs.newest_first()
    began = time.monotonic()
    last = project.finish(*more, "resume=last")
    taken = sum(made.run != last.run for made in last.artefacts.values())
    before = {entry for one in dead for entry in one.artefacts} - {"report", "release"}
    again = sum(last.artefacts[entry].run == last.run for entry in before)
    faults += faults_of(project, last, expected)
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
    for module in PRELOADED:
        import_module(module)
    with tempfile.TemporaryDirectory(prefix="tckr-kills-") as folder:
        project = Project(Path(folder), given.params)
        project.finish()  # makes MLflow's database
        project.forget()
        began = time.monotonic()
        expected = project.hashes(project.finish())
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
