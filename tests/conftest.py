"""A whole project in a temporary folder: the real configuration and code, tiny models, a tiny private set."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

# Before torch is imported: tiny models are quickest on one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from clusters import ray_cluster, s3_server
from endpoints import KEY, Endpoint, endpoint
from tiny import ROOT, make_images, make_project


@pytest.fixture(scope="session")
def private_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder per class of 80 images each."""
    return make_images(tmp_path_factory.mktemp("private"), 240)


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory, private_images: Path) -> Path:
    """A project folder whose runs leave nothing in the repository."""
    return make_project(tmp_path_factory.mktemp("project"), private_images)


Kedro = Callable[..., subprocess.CompletedProcess[str]]


def start_kedro(folder: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """Start `kedro` as a user would, in a folder and with further environment variables."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
        "PYTHONPATH": str(ROOT / "src"),
        **variables,
    }
    return subprocess.Popen(
        [sys.executable, "-m", "kedro", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs ignore Ctrl-C, and would pass that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  no threads yet
    )


@pytest.fixture(scope="session")
def kedro(project: Path) -> Kedro:
    """Run `kedro` as a user would, in the temporary project and the environment `test`."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        process = start_kedro(project, *arguments)
        output, errors = process.communicate(timeout=600)
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    return run


@pytest.fixture(scope="session")
def finished(kedro: Kedro) -> subprocess.CompletedProcess[str]:
    """One whole run, from raw images to the report, as a user would start it."""
    done = kedro("run", "--env=test", "--pipeline=knowledge_recycling")
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture
def inside(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work inside the temporary project, with Kedro set up for it in this process."""
    from kedro.framework.startup import bootstrap_project

    monkeypatch.chdir(project)
    bootstrap_project(project)
    return project


# Files whose slow tests take longest, longest first.
LONGEST = (
    "test_run.py",
    "test_killed_runs.py",
    "test_whole_runs.py",
    "test_first_starts.py",
    "test_private_arms.py",
    "test_comparison.py",
    "test_recycling_options.py",
    "test_cardinality_sweep.py",
    "test_kr.py",
    "test_sd2.py",
    "test_students.py",
)
# Files that look at the run `finished`, which is made once for all of them.
LOOK_AT_ONE_RUN = ("test_run.py", "test_killed_runs.py", "pipelines/test_release.py", "test_notebook.py")  # fmt: skip


class ByFile(LoadFileScheduling):
    """A file goes to one worker, and all files that look at one run to the same."""

    def _split_scope(self, nodeid: str) -> str:
        file = str(super()._split_scope(nodeid))
        return (
            "finished"
            if f"/{file}".endswith(tuple(f"/{name}" for name in LOOK_AT_ONE_RUN))
            else file
        )


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile | None:
    """Hand out tests in files if `--dist loadfile` asks for it."""
    return ByFile(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs a whole run, a fresh process or a cluster is slow; files of such tests come first, so that no worker waits."""
    for item in items:
        if {"bucket", "cluster", "finished", "kedro", "started"} & set(
            getattr(item, "fixturenames", ())
        ):
            item.add_marker("slow")
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (item.path not in slow, order.get(item.path.name, len(order))))


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    """The URL of a bucket of an S3 server."""
    with s3_server() as url:
        yield url


@pytest.fixture(scope="session")
def cluster(bucket: str) -> Iterator[Any]:
    """A Ray cluster of two nodes of one core each, which know of the S3 server."""
    with ray_cluster() as started:
        yield started


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    """An OpenAI-compatible server on the loopback, whose key the environment holds."""
    pytest.importorskip("openai", reason="the extra tckr[openai] is not installed")
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)  # nothing leaves the loopback
    monkeypatch.setenv("TEXT_SOURCE_API_KEY", KEY)
    with endpoint() as running:
        yield running
