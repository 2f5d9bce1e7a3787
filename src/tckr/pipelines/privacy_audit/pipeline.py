"""Everything that would be released is attacked on its own; figures, pictures, report."""

from kedro.pipeline import Node, Pipeline

from tckr.pipelines.membership import draw_memberships
from tckr.pipelines.privacy_audit import drawing, figures, nodes
from tckr.pipelines.stage import as_stage

AUDIT, SEED = "params:privacy_audit", "params:seed"
REPEATED = [
    "student_recipe",
    "params:generator_adaptation",
    "params:knowledge_recycling",
    AUDIT,
    SEED,
]
SCORES = ["target_scores", "shadow_scores", "membership_matrix", AUDIT]


def create_pipeline() -> Pipeline:
    """images, captions, adapter, teacher, student, recycled_set, accuracy -> audit, metrics, vulnerability, report."""
    return as_stage("privacy_audit", [*shadow_nodes(), *score_nodes(), *report_nodes()])


def shadow_nodes() -> list[Node]:
    """How many shadows, who is in which, and what they say of every audited image."""
    return [
        Node(
            nodes.caption_asked,
            inputs=["images", "captions", "params:captioning", AUDIT, SEED],
            outputs="asked_prompts",
            name="caption_asked",
        ),
        Node(
            nodes.plan_audit,
            inputs=["images", "recycled_set", "asked_prompts", *REPEATED],
            outputs="audit_plan",
            name="plan_audit",
        ),
        Node(
            draw_memberships,
            inputs=["images", "audit_plan", SEED],
            outputs="membership_matrix",
            name="draw_memberships",
        ),
        Node(
            nodes.score_shadows,
            inputs=["images", "recycled_set", "asked_prompts", "membership_matrix", *REPEATED],
            outputs="shadow_scores",
            name="score_shadows",
        ),
    ]


def score_nodes() -> list[Node]:
    """What the attacker sees of each thing that would be released, and the figures of every attack."""
    return [
        Node(
            nodes.score_targets,
            inputs=["images", "teacher", "student", "student_recipe", AUDIT],
            outputs="target_scores",
            name="score_targets",
        ),
        Node(
            nodes.score_generator,
            inputs=[
                "images",
                "asked_prompts",
                "adapter",
                "params:generator_adaptation",
                AUDIT,
                SEED,
            ],
            outputs="generator_scores",
            name="score_generator",
        ),
        Node(
            nodes.score_release,
            inputs=["images", "synthetic_images", "asked_prompts", AUDIT, SEED],
            outputs="release_scores",
            name="score_release",
        ),
        Node(
            figures.audit_release,
            inputs=[
                "images",
                "target_scores",
                "shadow_scores",
                "generator_scores",
                "release_scores",
                "membership_matrix",
                "audit_plan",
                "accuracy",
                AUDIT,
            ],
            outputs="audit",
            name="audit_release",
        ),
        Node(
            figures.rank_exposed,
            inputs=["images", "shadow_scores", "membership_matrix"],
            outputs="vulnerability",
            name="rank_exposed",
        ),
    ]


def report_nodes() -> list[Node]:
    """What people and MLflow read."""
    return [
        Node(figures.gather_metrics, inputs="audit", outputs="metrics", name="gather_metrics"),
        Node(
            drawing.draw_scores,
            inputs=["images", *SCORES],
            outputs=["roc", "score_histograms"],
            name="draw_scores",
        ),
        Node(
            drawing.draw_exposed,
            inputs=["images", "vulnerability"],
            outputs="exposed_sheet",
            name="draw_exposed",
        ),
        Node(
            drawing.draw_closest_pairs,
            inputs=["images", "recycled_set", "release_scores"],
            outputs="closest_pairs",
            name="draw_closest_pairs",
        ),
        Node(
            drawing.draw_attribution,
            inputs="audit",
            outputs="attribution",
            name="draw_attribution",
        ),
        Node(
            drawing.write_report,
            inputs={
                name: name
                for name in (
                    *("audit", "accuracy", "ingestion_report", "student_recipe", "recycled_set"),
                    *("private_sheet", "adaptation_sheet", "recycled_sheet", "adaptation_curve"),
                    *("roc", "score_histograms", "exposed_sheet", "closest_pairs", "attribution"),
                    "parameters",
                )
            },
            outputs="report",
            name="write_report",
        ),
    ]
