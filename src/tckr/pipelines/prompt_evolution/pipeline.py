"""Votes of private images -> the prompts that the release is drawn from, and pictures of how they came to be."""

from kedro.pipeline import Node, Pipeline

from tckr.pipelines.arm import SEED, arm_node, step_node
from tckr.pipelines.prompt_evolution.nodes import draw_best_prompts, draw_vote_distances
from tckr.pipelines.stage import as_stage
from tckr.synthesizers.registry import synthesizer_class

ARM = "spti"


def create_pipeline() -> Pipeline:
    """images, member_features, budget -> population, generations, vote_distances -> best_prompts, distance_curve."""
    arm = synthesizer_class(ARM)
    (evolve,) = (step for step in arm.steps if step.name == "evolve_prompts")
    facts = {"public_facts": "public_facts", "seed": SEED}
    return as_stage(
        "prompt_evolution",
        [
            step_node(evolve, arm),
            arm_node(draw_best_prompts, arm, facts, "best_prompts", artefacts=["generations"]),
            Node(
                draw_vote_distances,
                inputs="vote_distances",
                outputs="distance_curve",
                name="draw_vote_distances",
            ),
        ],
    )
