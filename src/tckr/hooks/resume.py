"""What a run takes up of an unfinished one is shown and tracked as if it had made it; killed runs are closed."""

import logging
from typing import Any

import mlflow
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from mlflow.entities import RunStatus

from tckr.hooks.lineage import Lineage
from tckr.hooks.summary import Summary
from tckr.hooks.tracking import Tracking

logger = logging.getLogger(__name__)
# Kinds of `metadata.mlflow` whose values are logged, not only their files.
VALUES = ("metrics", "history", "children")


class TakenUp:
    """Tracking and summary get what is taken up: an MLflow run that resumed another is as complete as any."""

    def __init__(self, lineage: Lineage, tracking: Tracking, summary: Summary) -> None:
        """Args: lineage: knows what is taken up. tracking, summary: are told of it once they have begun."""
        self._lineage, self._tracking, self._summary = lineage, tracking, summary

    @hook_impl(trylast=True)
    def before_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Tell tracking and summary of everything that is taken up."""
        makers = {entry: node for node in pipeline.nodes for entry in node.outputs}
        for name in self._lineage.taken:
            metadata = getattr(catalog.get(name), "metadata", None) or {}
            data: Any = catalog.load(name) if metadata.get("mlflow") in VALUES else None
            self._tracking.after_dataset_saved(dataset_name=name, data=data, node=makers[name])
            self._summary.after_dataset_saved(dataset_name=name, data=data)
        if mlflow.active_run():
            try:
                self._close_killed()
            except mlflow.MlflowException as error:
                logger.warning("MLflow still shows killed runs as running: %s", error)

    def _close_killed(self) -> None:
        """Say in MLflow which runs were killed, and which one this run takes up."""
        client, active = mlflow.MlflowClient(), mlflow.active_run()
        if self._lineage.resumption is not None:
            client.set_tag(active.info.run_id, "resumes", self._lineage.resumption.run.run)
        for manifest in self._lineage.killed:
            found = client.search_runs(
                [active.info.experiment_id], f"tags.version = '{manifest.run}'"
            )
            for run in found:
                if run.info.status == RunStatus.to_string(RunStatus.RUNNING):
                    client.set_terminated(run.info.run_id, RunStatus.to_string(RunStatus.KILLED))
