"""Recycled set -> student, and the accuracy of teacher and student on the private test split."""

from kedro.pipeline import Node, Pipeline

from tckr.pipelines.stage import as_stage
from tckr.pipelines.student_training.nodes import measure_accuracy, train_student


def create_pipeline() -> Pipeline:
    """recycled_set, teacher -> student; student and test images -> accuracy."""
    return as_stage(
        "student_training",
        [
            Node(
                train_student,
                inputs=[
                    "recycled_set",
                    "teacher",
                    "teacher_recipe",
                    "params:student_training",
                    "params:seed",
                ],
                outputs=["student", "student_recipe"],
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
