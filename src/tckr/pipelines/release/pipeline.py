"""Set, student and audit of an earlier run -> folder that may be handed out."""

from kedro.pipeline import Pipeline

from tckr.pipelines.arm import arm_node
from tckr.pipelines.release.nodes import offer_release, plan_release
from tckr.pipelines.stage import as_stage
from tckr.synthesizers.base import Synthesizer
from tckr.synthesizers.text_to_image import TextToImage

GROUPS = {
    "policies": "params:policy",
    "publication": "params:publication",
    "signing": "params:signing",
}


def create_pipeline(arm: type[Synthesizer], *, of_this_run: bool) -> Pipeline:
    """Wire the release of an arm: what it made, audit, accuracy, the ledger of an arm that has one -> release.

    Args:
        arm: whose release.
        of_this_run: as the last stage of the run that made it all, which a broken policy does not spoil; otherwise of an
            earlier run, and then a broken policy is an error.
    """
    proven = {"ledger": "ledger", "teacher": "teacher"} if arm.ledger() else {}
    adapter = {}
    if "generator" in arm.threats:
        assert issubclass(arm, TextToImage)
        adapter = {name: name for name in (*arm.public_updates, arm.update)}
    read = {
        name: name
        for name in (
            *("images", "recycled_set", "student", "audit", "accuracy"),
            *("ingestion_report", "lineage"),
        )
    }
    node = arm_node(
        offer_release if of_this_run else plan_release,
        arm,
        {**read, **proven, **GROUPS},
        "release",
        extra=adapter,
    )
    return as_stage("release", [node])
