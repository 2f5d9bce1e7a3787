"""What of MLflow's interface a run uses, with everything that can be known before it is called fixed.

Nothing here is an "active run": MLflow would end one as finished at the exit of any process, and read another's id from
the environment.
"""

import getpass
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from uuid import uuid4

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.file_utils import local_file_uri_to_path

from tckr.hooks.private import close_to_others
from tckr.process import Process

PROCESS = "process"  # the tag that names the process of a run, by which a dead one is known
# Error codes of what MLflow has understood and does not accept, however often it is sent.
FINAL = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"}
LONGEST = 5000  # characters of a tag
AT_ONCE = 100  # entries that a batch may hold of parameters or tags; of metrics ten times as many


def is_final(error: Exception) -> bool:
    """Whether sending the same again would be refused again."""
    code = getattr(error, "error_code", None)
    return code in FINAL or isinstance(error, FileNotFoundError | TypeError | ValueError)


class MlflowRun:
    """One run of an experiment. Each method may be called again after it failed."""

    def __init__(
        self, config: Any, project: Path, artefacts: Path, name: str, tags: Mapping[str, str]
    ) -> None:
        """Take what is known before the run.

        Args:
            config: kedro-mlflow's.
            project: its folder.
            artefacts: folder for the artefacts of an experiment that is new to a local database and names no other.
            name: of the run.
            tags: of the run.
        """
        self._config, self._project, self._artefacts = config, project, artefacts
        self._origin = {
            PROCESS: Process.this().name,
            "mlflow.user": _user(),
            "mlflow.source.name": str(project),
            "mlflow.source.type": "LOCAL",
        }
        self._tags = {**tags, **self._origin}
        self._name, self._started = name, now()
        self._client: MlflowClient | None = None
        self._experiment = self._id = ""

    def open(self) -> None:
        """Make the database if there is none, end what dead runs left open, and create the run."""
        if self._client is None:
            self._client = self._connected()
        if not self._id:
            self._close_dead_runs()
            self._id = self._create(self._name, self._tags, self._started)

    def _connected(self) -> MlflowClient:
        uri = self._config.server.mlflow_tracking_uri
        file = local_database(uri)
        if file is None:
            return self._with_experiment(uri, None)
        # Several first starts at once would each make the tables, and none would find a whole database.
        lock = file.with_name(f".{file.name}.lock")
        with FileLock(lock, timeout=60):
            make_database(file)
            client = self._with_experiment(uri, self._artefacts)
            location = client.get_experiment(self._experiment).artifact_location
            if Path(local_file_uri_to_path(location)).is_relative_to(self._artefacts):
                self._artefacts.mkdir(parents=True, exist_ok=True)
        for path in (file, lock, self._artefacts, self._project / "mlruns"):  # of older experiments
            close_to_others(path, deep=False)
        return client

    def _with_experiment(self, uri: str, place: Path | None) -> MlflowClient:
        client, wanted = MlflowClient(uri), self._config.tracking.experiment
        found = client.get_experiment_by_name(wanted.name)
        if found is None:
            location = wanted.create_experiment_kwargs.artifact_location
            if location is not None and "://" not in location:
                location = str(self._project / location)
            elif location is None and place is not None:
                location = str(place / wanted.name)
            try:
                client.create_experiment(
                    wanted.name, location, wanted.create_experiment_kwargs.tags
                )
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":  # made meanwhile on a server
                    raise
            found = client.get_experiment_by_name(wanted.name)
        elif found.lifecycle_stage == "deleted" and wanted.restore_if_deleted:
            client.restore_experiment(found.experiment_id)
        self._experiment = found.experiment_id
        return client

    def _close_dead_runs(self) -> None:
        """End as killed what killed processes of this folder left running; a live process keeps its run."""
        assert self._client is not None
        running = self._client.search_runs(
            [self._experiment], "attributes.status = 'RUNNING'", max_results=1000
        )
        for run in running:
            process = Process.named(run.data.tags.get(PROCESS, ""))
            ours = run.data.tags.get("mlflow.source.name") == str(self._project)
            if ours and process is not None and process.has_ended:
                self._client.set_terminated(run.info.run_id, "KILLED")

    def _create(self, name: str, tags: Mapping[str, str], started: int) -> str:
        assert self._client is not None
        given = {key: value[:LONGEST] for key, value in tags.items()} | {"mlflow.runName": name}
        return str(self._client.create_run(self._experiment, started, given, name).info.run_id)

    def log(
        self,
        metrics: list[Metric] | None = None,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, Any] | None = None,
        run_id: str | None = None,
    ) -> None:
        """Log figures, parameters and tags of this run, or of a nested one."""
        assert self._client is not None
        run_id = run_id or self._id
        figures = metrics or []
        for start in range(0, len(figures), 10 * AT_ONCE):
            self._client.log_batch(run_id, metrics=figures[start : start + 10 * AT_ONCE])
        settings = [Param(key, str(value)[:500]) for key, value in (params or {}).items()]
        for start in range(0, len(settings), AT_ONCE):
            self._client.log_batch(run_id, params=settings[start : start + AT_ONCE])
        labels = [RunTag(key, str(value)) for key, value in (tags or {}).items()]
        for start in range(0, len(labels), AT_ONCE):
            self._client.log_batch(run_id, tags=labels[start : start + AT_ONCE])

    def log_path(self, path: Path, folder: str | None) -> None:
        """Copy a file, or a folder under its own name, to the run's artefacts below `folder`."""
        assert self._client is not None
        if path.is_dir():
            place = "/".join([*([folder] if folder else []), path.name])
            self._client.log_artifacts(self._id, str(path), place)
        else:
            self._client.log_artifact(self._id, str(path), folder)

    def log_child(
        self,
        name: str,
        params: Mapping[str, Any],
        metrics: list[Metric],
        started: int,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log a nested run, finished."""
        assert self._client is not None
        given = {**(tags or {}), **self._origin, "mlflow.parentRunId": self._id}
        child = self._create(name, given, started)
        self.log(metrics, params, run_id=child)
        self._client.set_terminated(child, "FINISHED")

    def end(self, status: str, ended: int) -> None:
        """End the run: FINISHED, FAILED or KILLED."""
        assert self._client is not None
        self._client.set_terminated(self._id, status, ended)


def now() -> int:
    """Return the time in milliseconds, as MLflow counts it."""
    return int(time.time() * 1000)


def points(figures: Mapping[str, float], step: int = 0) -> list[Metric]:
    """Return figures as MLflow takes them, stamped now: sent twice, they are one.

    >>> [(point.key, point.value, point.step) for point in points({"accuracy": 90})]
    [('accuracy', 90.0, 0)]
    """
    return [Metric(name, float(value), now(), step) for name, value in figures.items()]


def local_database(uri: str) -> Path | None:
    """Return the file of a SQLite address; None for anything else.

    >>> local_database("sqlite:///mlflow.db"), local_database("http://127.0.0.1:5000")
    (PosixPath('mlflow.db'), None)
    """
    address = urlparse(uri)
    return Path(address.path[1:]) if address.scheme.startswith("sqlite") and address.path else None


def make_database(file: Path) -> None:
    """Make a SQLite database of MLflow's if there is none; whoever is killed meanwhile leaves none, not half of one."""
    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    for left in file.parent.glob(f".{file.name}.*.unfinished"):
        left.unlink(missing_ok=True)
    unfinished = file.with_name(f".{file.name}.{uuid4().hex}.unfinished")
    try:
        MlflowClient(f"sqlite:///{unfinished.absolute()}")
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return "unknown"
