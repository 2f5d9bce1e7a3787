"""Members -> teacher; prompts -> synthetic images -> recycled set with the teacher's soft labels."""

from kedro.pipeline import Node, Pipeline

from tckr.pipelines.knowledge_recycling.nodes import (
    draw_recycled_sheet,
    generate_images,
    label_images,
    train_teacher,
)
from tckr.pipelines.stage import as_stage


def create_pipeline() -> Pipeline:
    """images, captions, adapter -> teacher, teacher_recipe, synthetic_images -> recycled_set, recycled_sheet."""
    return as_stage(
        "knowledge_recycling",
        [
            Node(
                train_teacher,
                inputs=["images", "params:classifier", "params:seed"],
                outputs=["teacher", "teacher_recipe"],
                name="train_teacher",
            ),
            Node(
                generate_images,
                inputs=[
                    "images",
                    "captions",
                    "adapter",
                    "params:generator_adaptation",
                    "params:knowledge_recycling",
                    "params:seed",
                ],
                outputs="synthetic_images",
                name="generate_images",
            ),
            Node(
                label_images,
                inputs=["synthetic_images", "teacher", "params:knowledge_recycling"],
                outputs="recycled_set",
                name="label_images",
            ),
            Node(
                draw_recycled_sheet,
                inputs=["images", "recycled_set"],
                outputs="recycled_sheet",
                name="draw_recycled_sheet",
            ),
        ],
    )
