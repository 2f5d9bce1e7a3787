"""What a run takes up of an unfinished one is shown and tracked as if it had made it."""

from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

from tckr.datasets.whole import CSVDataset, JSONDataset
from tckr.hooks.lineage import Lineage
from tckr.hooks.summary import Summary
from tckr.hooks.tracking import Tracking

# Entries whose values are shown or logged; of images and models it is their files.
VALUES = (JSONDataset, CSVDataset)


class TakenUp:
    """Tracking and summary get what is taken up: an MLflow run that resumed another is as complete as any."""

    def __init__(self, lineage: Lineage, tracking: Tracking, summary: Summary) -> None:
        """Args: lineage: knows what is taken up. tracking, summary: are told of it once they have begun."""
        self._lineage, self._tracking, self._summary = lineage, tracking, summary

    @hook_impl(trylast=True)
    def before_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Tell tracking and summary of everything that is taken up."""
        if self._lineage.resumption is None:
            return
        self._tracking.set_tags(resumes=self._lineage.resumption.run.run)
        makers = {entry: node for node in pipeline.nodes for entry in node.outputs}
        for name in self._lineage.taken:
            data: Any = catalog.load(name) if isinstance(catalog.get(name), VALUES) else None
            self._tracking.after_dataset_saved(dataset_name=name, data=data, node=makers[name])
            self._summary.after_dataset_saved(dataset_name=name, data=data)
