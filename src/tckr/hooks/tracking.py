"""Every run is an MLflow run: parameters, data, figures, times and pictures."""

import logging
import shlex
import sys
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro_mlflow.framework.hooks.mlflow_hook import MlflowHook
from mlflow.entities import Metric

from tckr.hooks.clock import Clock
from tckr.hooks.lineage import Lineage
from tckr.hooks.project import git_state, saved_path
from tckr.options import leaves

# kedro-mlflow sets itself to INFO when imported, MLflow prints through a handler of its own.
for noisy in ("kedro_mlflow", "mlflow", "alembic"):
    logging.getLogger(noisy).setLevel(logging.WARNING)

KINDS = ("artifact", "metrics", "history", "children")
# Columns of a table of models that say what a model is, not how good.
SETTINGS = ("cardinality", "images")


class Tracking(MlflowHook):
    """kedro-mlflow's hook, with what it leaves out.

    kedro-mlflow logs a typed parameter group as one long string, no git commit, no versioned artefact and no dictionary
    of figures. Which catalog entries go to MLflow, their `metadata: {mlflow: ...}` says:

    * `artifact`: the file or folder itself,
    * `metrics`: a flat dictionary of figures,
    * `history`: a table of `step` and one column a figure,
    * `children`: a table of a row a model, `model` and figures: those of the teacher are this run's, after `teacher.`;
      every other row becomes a nested run with `cardinality` and `images` for parameters. The file is logged too.
    """

    def __init__(self, clock: Clock, lineage: Lineage) -> None:
        """Args: clock: knows the seconds of every stage. lineage: knows what the run starts from."""
        super().__init__()
        self._clock, self._lineage = clock, lineage
        self._catalog: CatalogProtocol | None = None
        self._several = False

    @hook_impl
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol
    ) -> None:
        """Open the MLflow run; log the parameters, the commit and the version of everything this run will save."""
        super().before_pipeline_run(run_params, pipeline, catalog)
        self._catalog = catalog
        kinds = [
            (getattr(catalog.get(n), "metadata", None) or {}).get("mlflow")
            for n in pipeline.outputs()
        ]
        self._several = kinds.count("metrics") > 1
        if not self._is_mlflow_enabled:
            return
        mlflow.set_tags(
            {
                # What `--params=parent=<version>` takes to go on from this run.
                "version": run_params["run_id"],
                "parent": self._lineage.parent.run if self._lineage.parent else "none",
                "command": shlex.join(["kedro", *sys.argv[1:]]),
                **git_state(Path(run_params["project_path"])),
            }
        )
        names = sorted(name for name in pipeline.inputs() if name.startswith("params:"))
        values = {name.removeprefix("params:"): catalog.load(name) for name in names}
        mlflow.log_params({key: str(value)[:500] for key, value in leaves(values)})

    @hook_impl
    def before_node_run(self) -> None:
        """Log nothing: `before_pipeline_run` has logged the parameters, readably."""

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any, node: Node) -> None:
        """Log what the entry's metadata asks for."""
        dataset = self._catalog.get(dataset_name) if self._catalog is not None else None
        kind = (getattr(dataset, "metadata", None) or {}).get("mlflow")
        if kind is None or not (self._is_mlflow_enabled and mlflow.active_run()):
            return
        # What a single arm made stands under its bare names, so that runs of all arms compare.
        arm = dataset_name.rpartition(".")[0] if self._several else None
        if kind == "artifact":
            path = saved_path(dataset)
            if path.is_dir():
                mlflow.log_artifacts(str(path), "/".join([*([arm] if arm else []), path.name]))
            else:
                mlflow.log_artifact(str(path), arm or None)
        elif kind == "metrics":
            prefix = f"{arm}." if arm else ""
            mlflow.log_metrics(
                {f"{prefix}{k}": float(value) for k, value in data.items() if value is not None}
            )
        elif kind == "history":
            log_history(dataset_name, data)
        elif kind == "children":
            log_children(data)
            mlflow.log_artifact(str(saved_path(dataset)), arm or None)
        else:
            raise ValueError(
                f"metadata.mlflow of {dataset_name} must be one of {', '.join(KINDS)}, not {kind}"
            )

    @hook_impl
    def after_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol
    ) -> None:
        """Log the times and close the run."""
        if self._is_mlflow_enabled and mlflow.active_run():
            if private_set := self._lineage.private_set:
                mlflow.set_tag("data_hash", private_set)
            mlflow.log_metrics(
                {f"seconds.{stage}": seconds for stage, seconds in self._clock.stages.items()}
            )
        super().after_pipeline_run(run_params, pipeline, catalog)


def log_history(name: str, table: pd.DataFrame) -> None:
    """Log every column beside `step` as a curve."""
    run_id = mlflow.active_run().info.run_id
    points = [
        Metric(f"{name}.{column}", float(value), 0, int(step))
        for column in table.columns.drop("step")
        for step, value in zip(table["step"], table[column], strict=True)
    ]
    for start in range(0, len(points), 1000):
        mlflow.MlflowClient().log_batch(run_id, metrics=points[start : start + 1000])


def log_children(models: pd.DataFrame) -> None:
    """Log the teacher's figures in this run and each student's in a nested run of its own; empty cells are left out."""
    parent = mlflow.active_run().info
    for row in models.to_dict("records"):
        model = row.pop("model")
        known = {str(name): value for name, value in row.items() if pd.notna(value)}
        settings = {name: known.pop(name) for name in SETTINGS if name in known}
        if model == "teacher":
            mlflow.log_metrics({f"teacher.{name}": value for name, value in known.items()})
            continue
        # A rate is named after its model, as in the runs of the other pipelines.
        figures = {
            f"{model}.{name}" if name.startswith("TPR_") else name: value
            for name, value in known.items()
        }
        name = f"cardinality {settings['cardinality']:g}" if model == "student" else model
        with mlflow.start_run(run_name=name, experiment_id=parent.experiment_id, nested=True):
            mlflow.log_params(settings)
            mlflow.log_metrics(figures)
