"""Raw images -> private set, its report and a contact sheet."""

from kedro.pipeline import Node, Pipeline

from tckr.pipelines.ingestion.nodes import (
    draw_near_duplicates,
    draw_private_sheet,
    ingest,
    state_public_facts,
)
from tckr.pipelines.stage import as_stage


def create_pipeline() -> Pipeline:
    """raw_images -> images, ingestion_report -> public_facts, private_sheet, near_duplicates_sheet."""
    return as_stage(
        "ingestion",
        [
            Node(
                ingest,
                inputs=["raw_images", "params:ingestion", "params:seed"],
                outputs=["images", "ingestion_report"],
                name="ingest",
            ),
            Node(
                state_public_facts,
                inputs="images",
                outputs="public_facts",
                name="state_public_facts",
            ),
            Node(
                draw_private_sheet,
                inputs="images",
                outputs="private_sheet",
                name="draw_private_sheet",
            ),
            Node(
                draw_near_duplicates,
                inputs=["images", "ingestion_report"],
                outputs="near_duplicates_sheet",
                name="draw_near_duplicates",
            ),
        ],
    )
