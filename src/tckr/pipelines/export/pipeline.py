"""Recycled set of an earlier run -> folder in another format."""

from kedro.pipeline import Node, Pipeline

from tckr.pipelines.export.nodes import export_set
from tckr.pipelines.stage import as_stage
from tckr.synthesizers.base import Synthesizer


def create_pipeline(arm: type[Synthesizer]) -> Pipeline:
    """recycled_set, the ledger of an arm that has one -> export."""
    inputs = ["recycled_set", "params:format", *(["ledger"] if arm.ledger() else [])]
    node = Node(export_set, inputs=inputs, outputs="export", name="export_set")
    return as_stage("export", [node])
