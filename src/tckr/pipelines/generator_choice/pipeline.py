"""Snapshots of the generator, teacher, validation images -> which snapshot is sampled, and how."""

from kedro.pipeline import Pipeline

from tckr.pipelines.arm import CHOICE, SEED, arm_node
from tckr.pipelines.generator_choice.nodes import choose_generator
from tckr.pipelines.stage import as_stage
from tckr.synthesizers.base import Synthesizer


def create_pipeline(arm: type[Synthesizer]) -> Pipeline:
    """Wire the choice of an arm: its artefacts, teacher, images -> choice, choice_students, choice_curve."""
    read = [name for step in arm.steps for name in step.makes if name not in arm.by_products]
    datasets = {
        "images": "images",
        "public_facts": "public_facts",
        "teacher": "teacher",
        "teacher_recipe": "teacher_recipe",
        "options": "params:student_training",
        "seed": SEED,
    }
    made = [CHOICE, "choice_students", "choice_curve"]
    return as_stage(
        "generator_choice",
        [arm_node(choose_generator, arm, datasets, made, artefacts=read, chosen=False)],
    )
