"""Teacher, captions, adapter -> one pool of synthetic images -> a student a cardinality, audited, in one picture."""

from kedro.pipeline import Node, Pipeline

from tckr.pipelines.cardinality_sweep import nodes
from tckr.pipelines.membership import draw_memberships
from tckr.pipelines.stage import as_stage

SWEEP, AUDIT, SEED = "params:cardinality_sweep", "params:privacy_audit", "params:seed"
DISTILLATION = "params:student_training"


def create_pipeline() -> Pipeline:
    """images, captions, adapter, teacher, teacher_recipe -> sweep_pool -> sweep_audit, sweep, sweep_curves."""
    return as_stage("cardinality_sweep", [*student_nodes(), *attack_nodes(), *report_nodes()])


def student_nodes() -> list[Node]:
    """The pool and what is trained on it."""
    return [
        Node(
            nodes.draw_pool,
            inputs=[
                "images",
                "captions",
                "adapter",
                "params:generator_adaptation",
                "params:knowledge_recycling",
                SWEEP,
                SEED,
            ],
            outputs="sweep_pool",
            name="draw_pool",
        ),
        Node(
            nodes.train_students,
            inputs=[
                "images",
                "sweep_pool",
                "teacher",
                "teacher_recipe",
                DISTILLATION,
                SWEEP,
                AUDIT,
                SEED,
            ],
            outputs=["sweep_accuracy", "sweep_target_scores"],
            name="train_students",
        ),
    ]


def attack_nodes() -> list[Node]:
    """Memberships, shadows and the audit of every model."""
    return [
        Node(
            nodes.plan_audit,
            inputs=["images", "sweep_pool", "teacher_recipe", DISTILLATION, AUDIT, SWEEP, SEED],
            outputs="sweep_plan",
            name="plan_audit",
        ),
        Node(
            draw_memberships,
            inputs=["images", "sweep_plan", SEED],
            outputs="sweep_memberships",
            name="draw_memberships",
        ),
        Node(
            nodes.score_shadows,
            inputs=[
                "images",
                "sweep_pool",
                "sweep_memberships",
                "teacher_recipe",
                DISTILLATION,
                AUDIT,
                SWEEP,
                SEED,
            ],
            outputs="sweep_shadow_scores",
            name="score_shadows",
        ),
        Node(
            nodes.audit_models,
            inputs=[
                "images",
                "sweep_accuracy",
                "sweep_target_scores",
                "sweep_shadow_scores",
                "sweep_memberships",
                AUDIT,
                SWEEP,
            ],
            outputs="sweep_audit",
            name="audit_models",
        ),
    ]


def report_nodes() -> list[Node]:
    """What people and MLflow read."""
    return [
        Node(nodes.tabulate, inputs="sweep_audit", outputs="sweep", name="tabulate"),
        Node(
            nodes.tabulate_attacks,
            inputs="sweep_audit",
            outputs="sweep_attacks",
            name="tabulate_attacks",
        ),
        Node(
            nodes.draw_curves, inputs=["sweep", AUDIT], outputs="sweep_curves", name="draw_curves"
        ),
    ]
