"""Teacher, captions, adapter -> nested synthetic sets -> one student per cardinality, audited, in one picture.

Its own are the sets, the students and the picture; shadows and attacks are those of every audit.
"""

from kedro.pipeline import Node, Pipeline

from tckr.pipelines.arm import CHOICE, SEED, arm_node
from tckr.pipelines.cardinality_sweep import nodes
from tckr.pipelines.privacy_audit.pipeline import shadow_nodes
from tckr.pipelines.stage import in_namespace
from tckr.synthesizers.base import Synthesizer

NAME = "cardinality_sweep"
SWEEP, AUDIT = "params:cardinality_sweep", "params:privacy_audit"


def create_pipeline(arm: type[Synthesizer]) -> Pipeline:
    """Wire the sweep: images, the arm's artefacts, teacher, teacher_recipe -> sets -> sweep_audit, table, curves."""
    read = [name for step in arm.steps for name in step.makes if name not in arm.by_products]
    drawn = {"public_facts": "public_facts", "options": SWEEP, "seed": SEED, "teacher": "teacher"}
    drawn |= {"mixture": "mixture"}
    students = [
        arm_node(nodes.draw_sets, arm, drawn, "synthetic_sets", artefacts=read),
        Node(
            nodes.train_students,
            inputs=[
                "images",
                "synthetic_sets",
                "teacher",
                "teacher_recipe",
                "params:student_training",
                SWEEP,
                AUDIT,
                SEED,
            ],
            outputs=["sweep_accuracy", "target_scores", "student_recipe"],
            name="train_students",
        ),
    ]
    attacked = [
        "images",
        "sweep_accuracy",
        "target_scores",
        "shadow_scores",
        "membership_matrix",
        "audit_plan",
        "student_recipe",
        AUDIT,
    ]
    audit = [
        *shadow_nodes("synthetic_sets", f"{SWEEP}.audit"),
        Node(nodes.audit_models, inputs=attacked, outputs="sweep_audit", name="audit_models"),
        Node(nodes.tabulate, inputs="sweep_audit", outputs="sweep_table", name="tabulate"),
        Node(
            nodes.tabulate_attacks,
            inputs="sweep_audit",
            outputs="sweep_attacks",
            name="tabulate_attacks",
        ),
        Node(
            nodes.draw_curves,
            inputs=["sweep_table", AUDIT],
            outputs="sweep_curves",
            name="draw_curves",
        ),
    ]
    shared = {"images", "public_facts", "teacher", "teacher_recipe", CHOICE, "mixture", *read}
    return in_namespace(NAME, Pipeline([*students, *audit]), shared, own_parameters=())
