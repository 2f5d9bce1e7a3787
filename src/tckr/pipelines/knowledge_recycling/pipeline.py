"""Members -> teacher; teacher, validation images -> choice; prompts -> synthetic images -> recycled set, labelled by the teacher."""

from kedro.pipeline import Node, Pipeline

from tckr.pipelines.arm import CHOICE, SEED, arm_node
from tckr.pipelines.knowledge_recycling import nodes
from tckr.pipelines.knowledge_recycling.choice import choose_generator
from tckr.pipelines.stage import as_stage
from tckr.synthesizers.base import Synthesizer


def create_pipeline(arm: type[Synthesizer]) -> Pipeline:
    """Wire the images of an arm: public_facts, its artefacts, teacher -> synthetic_images -> recycled_set, warnings."""
    labelled = {"synthetic_images": "synthetic_images"}
    drawn = {"public_facts": "public_facts", "seed": SEED}
    if arm.label_source == "teacher":
        labelled |= {"teacher": "teacher", "teacher_recipe": "teacher_recipe"}
        drawn |= {"teacher": "teacher"}
    read = [name for step in arm.steps for name in step.makes if name not in arm.by_products]
    drawn |= {"mixture": "mixture"} if _mixes(arm) else {}
    return create_generators_pipeline(arm) + as_stage(
        "knowledge_recycling",
        [
            arm_node(nodes.generate_images, arm, drawn, "synthetic_images", artefacts=read),
            arm_node(
                nodes.label_images,
                arm,
                labelled,
                ["recycled_set", "warnings"],
                # Captions of members are looked at without noise: not where a ledger counts what is read.
                artefacts=[name for name in read if name == "captions" and not arm.ledger()],
            ),
            arm_node(
                nodes.describe_drawing,
                arm,
                {"synthetic_images": "synthetic_images"},
                "drawing_report",
            ),
            Node(
                nodes.draw_recycled_sheet,
                inputs=["images", "recycled_set"],
                outputs="recycled_sheet",
                name="draw_recycled_sheet",
            ),
        ],
    )


def create_generators_pipeline(arm: type[Synthesizer]) -> Pipeline:
    """Wire what decides from which generators images are drawn: artefacts, teacher, images -> choice and so on, mixture."""
    read = [name for step in arm.steps for name in step.makes if name not in arm.by_products]
    chosen_by = {
        "images": "images",
        "public_facts": "public_facts",
        "teacher": "teacher",
        "teacher_recipe": "teacher_recipe",
        "seed": SEED,
    }
    made = [CHOICE, "choice_students", "choice_curve", "choice_report"]
    fitted_on = {"images": "images", "seed": SEED}
    nodes_of_arm = [
        *(
            [arm_node(choose_generator, arm, chosen_by, made, artefacts=read, chosen=False)]
            if arm.chooses
            else []
        ),
        *(
            [
                arm_node(
                    nodes.fit_mixture,
                    arm,
                    fitted_on,
                    "mixture",
                    artefacts=arm.artefacts(per_image=True),
                )
            ]
            if _mixes(arm)
            else []
        ),
    ]
    return as_stage("knowledge_recycling", nodes_of_arm)


def _mixes(arm: type[Synthesizer]) -> bool:
    """Whether there may be several generators: not if each would cost its privacy again, or if there is nothing to fit."""
    return not arm.ledger() and bool(arm.artefacts(per_image=False))


def create_teacher_pipeline() -> Pipeline:
    """Wire what all arms share: images -> teacher, teacher_recipe."""
    return as_stage(
        "knowledge_recycling",
        [
            Node(
                nodes.train_teacher,
                inputs=["images", "params:classifier", SEED],
                outputs=["teacher", "teacher_recipe"],
                name="train_teacher",
            )
        ],
    )
