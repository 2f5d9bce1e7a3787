"""Every run is an MLflow run: parameters, data, figures, times and pictures; it costs no run if MLflow fails."""

import atexit
import logging
import math
import shlex
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro_mlflow.config.kedro_mlflow_config import KedroMlflowConfig
from mlflow.entities import Metric

from tckr.hooks.clock import Clock
from tckr.hooks.lineage import Lineage
from tckr.hooks.mlflow_client import MlflowRun, is_final, local_database, now, points
from tckr.hooks.outbox import Outbox
from tckr.hooks.project import git_state, saved_path
from tckr.options import leaves

# kedro-mlflow sets itself to INFO when imported, MLflow prints through a handler of its own. Failures of the database
# and of the connection, which they log with a traceback at every try, are said by the outbox, once.
for noisy, level in {
    "kedro_mlflow": logging.WARNING,
    "mlflow": logging.WARNING,
    "alembic": logging.WARNING,
    "mlflow.store.db.utils": logging.CRITICAL,
    "urllib3.connectionpool": logging.ERROR,
}.items():
    logging.getLogger(noisy).setLevel(level)

ARTEFACTS = "09_tracking/mlruns"  # of a local database, in the data folder: report and sheets show private images
KINDS = ("artifact", "metrics", "figures", "history", "children")
# Columns of a table of models that say what a model is, not how good.
SETTINGS = ("cardinality", "images")
# Columns of a table of models that name one, `arm` in a table of arms.
MODEL, ARM = "model", "arm"
CONFIGURATION = {"mlflow": ["mlflow*", "mlflow*/**", "**/mlflow*"]}


class Tracking:
    """Logs a run to the place that `mlflow.yml` names, on a thread beside it.

    Which catalog entries go to MLflow, their `metadata: {mlflow: ...}` says:

    * `artifact`: the file or folder itself,
    * `metrics`: a flat dictionary of figures; one that is a word (`epsilon: infinity`) becomes a tag,
    * `figures`: `described`, sentences that become a tag of the entry's name, and `figures`, by which no runs are compared,
    * `history`: a table of `step` and one column a figure,
    * `children`: a table of a row a model, `model` and figures, or a row an arm, `arm` and figures: those of the teacher
      are this run's, after `teacher.`; every other row becomes a nested run, with `cardinality` and `images` for
      parameters and `arm` for a tag. The file is logged too.

    A run that fails ends as FAILED, one that is interrupted as KILLED. What a killed process left running, the next run
    in the folder ends as KILLED.
    """

    def __init__(self, clock: Clock, lineage: Lineage) -> None:
        """Args: clock: knows the seconds of every stage. lineage: knows what the run starts from."""
        self._clock, self._lineage = clock, lineage
        self._project = self._artefacts = Path()
        self._config: Any = None
        self._catalog: CatalogProtocol | None = None
        self._several = False
        self._run: MlflowRun | None = None
        self._outbox: Outbox | None = None
        atexit.register(self.on_interrupt)

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Read `mlflow.yml`; `kedro mlflow ui` takes it from the context. MLflow itself is not asked yet."""
        loader = context.config_loader
        loader.config_patterns.update(CONFIGURATION)
        config = KedroMlflowConfig.model_validate(loader["mlflow"])
        self._project = Path(context.project_path)
        config.server.mlflow_tracking_uri = _absolute(
            config.server.mlflow_tracking_uri or "sqlite:///mlflow.db", self._project
        )
        config._export_credentials(context)
        config._register_request_header_provider(context)
        context.__setattr__("mlflow", config)
        self._config = config
        self._artefacts = shared_data(self._project, loader["globals"]["data"]) / ARTEFACTS

    @hook_impl
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol
    ) -> None:
        """Open the MLflow run; log the parameters, the commit and the version of everything this run will save."""
        self.on_interrupt()  # a notebook's run before this one, stopped by hand
        names = run_params.get("pipeline_names") or ["__default__"]
        if all(name in self._config.tracking.disable_tracking.pipelines for name in names):
            return
        self._catalog = catalog
        kinds = [
            (getattr(catalog.get(n), "metadata", None) or {}).get("mlflow")
            for n in pipeline.outputs()
        ]
        self._several = kinds.count("metrics") > 1
        tags = {
            **{key: str(value) for key, value in run_params.items() if value},
            # What `--params=parent=<version>` takes to go on from this run.
            "version": run_params["run_id"],
            "parent": self._lineage.parent.run if self._lineage.parent else "none",
            "command": shlex.join(["kedro", *sys.argv[1:]]),
            **git_state(self._project),
        }
        name = self._config.tracking.run.name or "+".join(names)
        run = MlflowRun(self._config, self._project, self._artefacts, name, tags)
        uri = self._config.server.mlflow_tracking_uri
        self._run, self._outbox = run, Outbox(f"MLflow at {local_database(uri) or uri}", is_final)
        self._outbox.put(run.open)
        params = sorted(name for name in pipeline.inputs() if name.startswith("params:"))
        values = {name.removeprefix("params:"): catalog.load(name) for name in params}
        self._log(params=dict(leaves(values)))

    def set_tags(self, **tags: str) -> None:
        """Say more about the run that is open."""
        self._log(tags=tags)

    def _log(self, **entries: Any) -> None:
        if self._run is not None and self._outbox is not None:
            self._outbox.put(partial(self._run.log, **entries))

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any, node: Node) -> None:
        """Log what the entry's metadata asks for."""
        dataset = self._catalog.get(dataset_name) if self._catalog is not None else None
        kind = (getattr(dataset, "metadata", None) or {}).get("mlflow")
        if kind is None or self._run is None or self._outbox is None:
            return
        # What a single arm made stands under its bare names, so that runs of all arms compare.
        arm = arm_of(node) if self._several else ""
        if kind == "artifact":
            self._log_path(saved_path(dataset), arm)
        elif kind == "metrics":
            prefix = f"{arm}." if arm else ""
            known = {f"{prefix}{name}": value for name, value in data.items() if value is not None}
            # MLflow's database has no infinity: an epsilon without bound is a word, and a tag.
            words = {name: value for name, value in known.items() if isinstance(value, str)}
            self._log(metrics=points({n: v for n, v in known.items() if n not in words}))
            self.set_tags(**words)
        elif kind == "figures":
            prefix = f"{arm}." if arm else ""
            self._log(metrics=points({f"{prefix}{n}": v for n, v in data["figures"].items()}))
            if data["described"]:
                self.set_tags(**{dataset_name: " ".join(data["described"])})
        elif kind == "history":
            self._log(metrics=history(dataset_name, data))
        elif kind == "children":
            self._log_children(data)
            self._log_path(saved_path(dataset), arm)
        else:
            raise ValueError(
                f"metadata.mlflow of {dataset_name} must be one of {', '.join(KINDS)}, not {kind}"
            )

    def _log_path(self, path: Path, arm: str) -> None:
        if self._run is not None and self._outbox is not None:
            self._outbox.put(partial(self._run.log_path, path, arm or None))

    def _log_children(self, models: pd.DataFrame) -> None:
        if self._run is None or self._outbox is None:
            return
        run = self._run
        for child in children(models):
            if child.name == "teacher":
                self._log(metrics=points(child.figures))
            else:
                figures = points(child.figures)
                self._outbox.put(
                    partial(run.log_child, child.name, child.settings, figures, now(), child.tags)
                )

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Log the times and close the run."""
        if private_set := self._lineage.private_set:
            self.set_tags(data_hash=private_set)
        seconds = {f"seconds.{stage}": value for stage, value in self._clock.stages.items()}
        self._log(metrics=points(seconds))
        self._end("FINISHED")

    @hook_impl
    def on_pipeline_error(self) -> None:
        """Close the run as failed."""
        self._end("FAILED")

    def on_interrupt(self) -> None:
        """Close as killed a run that is still open: the command line calls this when a run was interrupted."""
        self._end("KILLED")

    def _end(self, status: str) -> None:
        run, outbox, self._run, self._outbox = self._run, self._outbox, None, None
        if run is None or outbox is None:
            return
        outbox.put(partial(run.end, status, now()))
        outbox.close()


def history(name: str, table: pd.DataFrame) -> list[Metric]:
    """Return every column beside `step` as a curve.

    >>> [(p.key, p.step) for p in history("losses", pd.DataFrame({"step": [1, 2], "loss": [0.5, 0.4]}))]
    [('losses.loss', 1), ('losses.loss', 2)]
    """
    return [
        Metric(f"{name}.{column}", float(value), 0, int(step))
        for column in table.columns.drop("step")
        for step, value in zip(table["step"], table[column], strict=True)
    ]


class Child(NamedTuple):
    """A nested run, or the teacher, whose figures are those of the run itself."""

    name: str
    settings: Mapping[str, Any]
    figures: Mapping[str, float]
    tags: Mapping[str, str]


def children(models: pd.DataFrame) -> list[Child]:
    """Return each row of a table of models or arms as a nested run; empty cells are left out.

    MLflow's database has no infinity: an epsilon without bound is a tag.

    >>> children(pd.DataFrame({"model": ["student"], "cardinality": [2.0], "accuracy": [90.0], "AOP": [None]}))
    [Child(name='cardinality 2', settings={'cardinality': 2.0}, figures={'accuracy': 90.0}, tags={})]
    >>> children(pd.DataFrame({"arm": ["unadapted"], "epsilon": [math.inf], "accuracy": [30.0]}))[0].tags
    {'arm': 'unadapted', 'epsilon': 'infinity'}
    """
    found: list[Child] = []
    for row in models.to_dict("records"):
        tags = {ARM: str(row[ARM])} if ARM in row else {}
        model = row.pop(MODEL, None) or row.pop(ARM)
        known = {str(name): value for name, value in row.items() if pd.notna(value)}
        settings = {name: known.pop(name) for name in SETTINGS if name in known}
        for name in [name for name, value in known.items() if math.isinf(value)]:
            del known[name]
            tags[name] = "infinity"
        if model == "teacher":
            figures = {f"teacher.{name}": value for name, value in known.items()}
            found.append(Child(model, {}, figures, {}))
            continue
        # A rate is named after its model, as in the runs of the other pipelines.
        figures = {
            f"{model}.{name}" if name.startswith("TPR_") else name: value
            for name, value in known.items()
        }
        name = f"cardinality {settings['cardinality']:g}" if model == "student" else model
        found.append(Child(name, settings, figures, tags))
    return found


def shared_data(project: Path, data: str) -> Path:
    """Return the data folder of all environments: they share one experiment, and it has one place for its artefacts.

    >>> shared_data(Path("/project"), "data/test"), shared_data(Path("/project"), "/disk/runs")
    (PosixPath('/project/data'), PosixPath('/disk/runs'))
    """
    folder = project / data
    if not folder.is_relative_to(project):
        return folder
    return project.joinpath(*folder.relative_to(project).parts[:1])


def arm_of(node: Node | None) -> str:
    """Return the arm in whose box a node's stage lies; empty where stages are in none.

    >>> def made(namespace): return Node(lambda: 0, None, "metrics", name="gather", namespace=namespace)
    >>> arm_of(made("unadapted.privacy_audit")), arm_of(made("privacy_audit"))
    ('unadapted', '')
    """
    return ((node.namespace if node is not None else None) or "").rpartition(".")[0]


def _absolute(uri: str, project: Path) -> str:
    """Let a relative place count from the project, whatever the working directory is.

    >>> _absolute("sqlite:///mlflow.db", Path("/project"))
    'sqlite:////project/mlflow.db'
    >>> _absolute("sqlite:///mlflow.db?timeout=60", Path("/project"))
    'sqlite:////project/mlflow.db?timeout=60'
    >>> _absolute("http://127.0.0.1:5000", Path("/project"))
    'http://127.0.0.1:5000'
    """
    file = local_database(uri)
    if file is not None:
        dialect = uri.partition(":///")[0]
        _, mark, options = uri.partition("?")
        return f"{dialect}:///{project / file.expanduser()}{mark}{options}"
    return uri if ":" in uri or uri.startswith("databricks") else (project / uri).as_uri()
