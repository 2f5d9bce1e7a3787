"""Everything that would be released is attacked on its own; figures, pictures, report."""

from kedro.pipeline import Node, Pipeline

from tckr.pipelines.arm import SEED, arm_node
from tckr.pipelines.privacy_audit import drawing, figures, nodes
from tckr.pipelines.stage import as_stage
from tckr.synthesizers.base import Synthesizer
from tckr.synthesizers.text_to_image import TextToImage

AUDIT = "params:privacy_audit"
SHADOWS = {"images": "images", "student_recipe": "student_recipe", "options": AUDIT, "seed": SEED}
SCORES = ("target_scores", "shadow_scores", "membership_matrix")
LEDGER = "ledger"  # what the last step of an arm under differential privacy makes
# Pictures that the stages of some steps leave for the report.
PICTURES_OF_STEP = {
    "adapt_generator": ("adaptation_sheet", "adaptation_curve"),
}


def create_pipeline(arm: type[Synthesizer]) -> Pipeline:
    """Wire the audit of an arm: what it made, teacher, student, accuracy -> audit, metrics, vulnerability, report."""
    parts = [*arm_shadow_nodes(arm), *score_nodes(arm), *report_nodes(arm)]
    return as_stage("privacy_audit", parts)


def shadow_nodes(synthetic_sets: str, wanted: str) -> list[Node]:
    """Wire shadows that repeat teacher and students on fixed synthetic sets, if the parameter `wanted` is true."""
    fixed = {**SHADOWS, "synthetic_sets": synthetic_sets, "wanted": wanted}
    drawn = {**fixed, "membership_matrix": "membership_matrix"}
    return [
        Node(nodes.plan_audit, inputs=fixed, outputs="audit_plan", name="plan_audit"),
        _memberships(),
        Node(nodes.score_shadows, inputs=drawn, outputs="shadow_scores", name="score_shadows"),
    ]


def arm_shadow_nodes(arm: type[Synthesizer]) -> list[Node]:
    """Wire shadows that may repeat the synthesizer too, and what is queried about each image."""
    per_image = arm.artefacts(per_image=True)
    queried = _queried(arm)
    read = {**SHADOWS, "recycled_set": "recycled_set"}
    with_matrix = {**read, "membership_matrix": "membership_matrix"}
    wired = [
        arm_node(nodes.plan_arm_audit, arm, read, "audit_plan", extra=queried),
        _memberships(),
        arm_node(nodes.score_arm_shadows, arm, with_matrix, "shadow_scores", extra=queried),
    ]
    if per_image:
        own_inputs = {"images": "images", "options": AUDIT, "seed": SEED}
        made = list(queried.values())
        outputs = made if len(made) > 1 else made[0]
        wired.append(
            arm_node(
                nodes.describe_queried,
                arm,
                own_inputs,
                outputs,
                artefacts=per_image,
                chosen=False,
            )
        )
    return wired


def score_nodes(arm: type[Synthesizer]) -> list[Node]:
    """Wire what the attacker sees of each thing that would be released, and the figures of every attack."""
    queried = _queried(arm)
    own_inputs = {"images": "images", "options": AUDIT, "seed": SEED}
    attacked = {
        name: name
        for name in (
            *("images", "target_scores", "shadow_scores", "release_scores"),
            *("membership_matrix", "audit_plan", "accuracy", "student_recipe", "recycled_set"),
        )
    } | {"options": AUDIT}
    wired = [
        Node(
            nodes.score_targets,
            inputs=["images", "teacher", "student", "student_recipe", "recycled_set", AUDIT, SEED],
            outputs="target_scores",
            name="score_targets",
        ),
        arm_node(
            nodes.score_release,
            arm,
            {**own_inputs, "synthetic_images": "synthetic_images"},
            "release_scores",
            extra=queried,
        ),
        Node(
            figures.rank_exposed,
            inputs=["images", "shadow_scores", "membership_matrix"],
            outputs="vulnerability",
            name="rank_exposed",
        ),
    ]
    if "generator" in arm.threats:
        assert issubclass(arm, TextToImage)
        wired.append(
            arm_node(
                nodes.score_generator,
                arm,
                own_inputs,
                "generator_scores",
                artefacts=(*arm.public_updates, arm.update),
                extra=queried,
            )
        )
        attacked["generator_scores"] = "generator_scores"
    if LEDGER in arm.artefacts():
        attacked["ledger"] = LEDGER
    wired.append(arm_node(figures.audit_release, arm, attacked, "audit"))
    if LEDGER in arm.artefacts():
        wired.append(
            Node(
                figures.check_guarantee,
                inputs="audit",
                outputs="guarantee_warnings",
                name="check_guarantee",
            )
        )
    return wired


def report_nodes(arm: type[Synthesizer]) -> list[Node]:
    """Wire what people and MLflow read; of an arm with a ledger only once the audit does not contradict it."""
    has_ledger = LEDGER in arm.artefacts()
    proven = {"ledger": LEDGER} if has_ledger else {}
    checked = {"guarantee_warnings": "guarantee_warnings"} if has_ledger else {}
    pictures = [name for step in arm.steps for name in PICTURES_OF_STEP.get(step.name, ())]
    pictures += ["choice_report", "choice_curve"] if arm.chooses else []
    return [
        Node(
            figures.gather_metrics,
            inputs={"audit": "audit", **checked},
            outputs="metrics",
            name="gather_metrics",
        ),
        Node(
            drawing.draw_scores,
            inputs={
                **{name: name for name in ("images", *SCORES)},
                "options": AUDIT,
                **proven,
            },
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
                    *("drawing_report", "warnings", *checked),
                    *("private_sheet", "recycled_sheet", *pictures),
                    *("roc", "score_histograms", "exposed_sheet", "closest_pairs", "attribution"),
                    *("parameters", "lineage"),
                )
            },
            outputs="report",
            name="write_report",
        ),
    ]


def _queried(arm: type[Synthesizer]) -> dict[str, str]:
    """Return the entries of the queried images' per-image artefacts by the artefacts' names."""
    return {name: f"{nodes.QUERIED}{name}" for name in arm.artefacts(per_image=True)}


def _memberships() -> Node:
    return Node(
        nodes.draw_memberships,
        inputs=["images", "audit_plan", SEED],
        outputs="membership_matrix",
        name="draw_memberships",
    )
