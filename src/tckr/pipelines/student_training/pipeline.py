"""Recycled set -> student, and the accuracy of teacher and student on the private test split."""

from kedro.pipeline import Node, Pipeline

from tckr.pipelines.stage import as_stage
from tckr.pipelines.student_training.nodes import measure_accuracy, train_student


def create_pipeline() -> Pipeline:
    """recycled_set, teacher -> student -> accuracy."""
    return as_stage(
        "student_training",
        [
            Node(
                train_student,
                inputs=[
                    "images",
                    "recycled_set",
                    "teacher",
                    "params:classifier",
                    "params:student_training",
                    "params:seed",
                ],
                outputs="student",
                name="train_student",
            ),
            Node(
                measure_accuracy,
                inputs=["images", "teacher", "student"],
                outputs="accuracy",
                name="measure_accuracy",
            ),
        ],
    )
