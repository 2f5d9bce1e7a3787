"""Recycled set of an earlier run -> folder in another format."""

from kedro.pipeline import Node, Pipeline

from tckr.pipelines.export.nodes import export_set
from tckr.pipelines.stage import as_stage


def create_pipeline() -> Pipeline:
    """recycled_set -> export."""
    node = Node(
        export_set, inputs=["recycled_set", "params:format"], outputs="export", name="export_set"
    )
    return as_stage("export", [node])
