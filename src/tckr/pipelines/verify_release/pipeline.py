"""Folder of a release -> what was verified."""

from kedro.pipeline import Node, Pipeline

from tckr.pipelines.stage import as_stage
from tckr.pipelines.verify_release.nodes import verify_release


def create_pipeline() -> Pipeline:
    """params:release, params:signer -> verification."""
    node = Node(
        verify_release,
        inputs=["params:release", "params:signer"],
        outputs="verification",
        name="verify_release",
    )
    return as_stage("verify_release", [node])
