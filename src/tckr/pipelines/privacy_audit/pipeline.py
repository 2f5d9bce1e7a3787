"""Teacher and student are attacked with shadows of their own recipe; figures, ROC, report."""

from kedro.pipeline import Node, Pipeline

from tckr.pipelines.privacy_audit.nodes import (
    audit_models,
    draw_memberships,
    draw_roc,
    gather_metrics,
    score_shadows,
    score_targets,
)
from tckr.pipelines.privacy_audit.report import write_report
from tckr.pipelines.stage import as_stage


def create_pipeline() -> Pipeline:
    """images, teacher, student, recycled_set, accuracy -> audit, metrics, roc, report."""
    return as_stage("privacy_audit", [*attack_nodes(), *report_nodes()])


def attack_nodes() -> list[Node]:
    """Memberships, shadows, scores and their audit."""
    return [
        Node(
            draw_memberships,
            inputs=["images", "params:privacy_audit", "params:seed"],
            outputs="membership_matrix",
            name="draw_memberships",
        ),
        Node(
            score_shadows,
            inputs=[
                "images",
                "recycled_set",
                "membership_matrix",
                "student_recipe",
                "params:privacy_audit",
                "params:seed",
            ],
            outputs="shadow_scores",
            name="score_shadows",
        ),
        Node(
            score_targets,
            inputs=["images", "teacher", "student"],
            outputs="target_scores",
            name="score_targets",
        ),
        Node(
            audit_models,
            inputs=[
                "target_scores",
                "shadow_scores",
                "membership_matrix",
                "accuracy",
                "params:privacy_audit",
            ],
            outputs="audit",
            name="audit_models",
        ),
    ]


def report_nodes() -> list[Node]:
    """What people and MLflow read."""
    return [
        Node(gather_metrics, inputs="audit", outputs="metrics", name="gather_metrics"),
        Node(
            draw_roc,
            inputs=["target_scores", "shadow_scores", "membership_matrix", "params:privacy_audit"],
            outputs="roc",
            name="draw_roc",
        ),
        Node(
            write_report,
            inputs={
                "audit": "audit",
                "accuracy": "accuracy",
                "ingestion_report": "ingestion_report",
                "student_recipe": "student_recipe",
                "recycled_set": "recycled_set",
                "private_sheet": "private_sheet",
                "adaptation_sheet": "adaptation_sheet",
                "recycled_sheet": "recycled_sheet",
                "adaptation_curve": "adaptation_curve",
                "roc": "roc",
                "parameters": "parameters",
            },
            outputs="report",
            name="write_report",
        ),
    ]
