"""Private set -> captions and prompts."""

from kedro.pipeline import Node, Pipeline

from tckr.pipelines.captioning.nodes import caption_members
from tckr.pipelines.stage import as_stage


def create_pipeline() -> Pipeline:
    """images -> captions."""
    return as_stage(
        "captioning",
        [
            Node(
                caption_members,
                inputs=["images", "params:captioning"],
                outputs="captions",
                name="caption_members",
            )
        ],
    )
