"""Recycled set -> student, and the accuracy of teacher and student on the private test split."""

from kedro.pipeline import Node, Pipeline

from tckr.pipelines.arm import SEED
from tckr.pipelines.stage import as_stage
from tckr.pipelines.student_training.nodes import measure_accuracy, train_student
from tckr.synthesizers.base import Synthesizer


def create_pipeline(arm: type[Synthesizer]) -> Pipeline:
    """Wire the student of an arm: recycled_set, teacher -> student; student and test images -> accuracy."""
    inputs = {
        "recycled_set": "recycled_set",
        "teacher_recipe": "teacher_recipe",
        "options": "params:student_training",
        "seed": SEED,
    }
    if arm.label_source == "teacher":
        inputs["teacher"] = "teacher"
    return as_stage(
        "student_training",
        [
            Node(
                train_student,
                inputs=inputs,
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
