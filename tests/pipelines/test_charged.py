"""What descends from private images reaches a release of an arm under differential privacy through its ledger alone."""

import pytest
from kedro.framework.project import configure_project
from kedro.pipeline import Node, Pipeline

from tckr.errors import UserError
from tckr.pipeline_registry import register_pipelines
from tckr.pipelines.arm import shared_pipeline
from tckr.pipelines.charged import (
    PUBLIC,
    arms_under_dp,
    check_adjacency,
    check_charged,
    passages,
    private_readers,
)
from tckr.synthesizers.registry import SYNTHESIZERS, synthesizer_class

UNDER_DP = [arm for arm in SYNTHESIZERS if synthesizer_class(arm).ledger()]
# For the owner's eyes: nothing that is released is made from these, which the walk checks.
# A release copies what is under the ledger, and its certificate says of the audit's figures that they are not.
OWNERS_STAGES = ("ingestion", "privacy_audit", "release")
OWNERS_NODES = ("draw_recycled_sheet", "measure_accuracy")


@pytest.fixture(scope="module")
def pipelines() -> dict[str, Pipeline]:
    configure_project("tckr")
    return register_pipelines()


@pytest.mark.parametrize("arm", UNDER_DP)
def test_only_the_ledger_and_the_owner_read_private_images(
    arm: str, pipelines: dict[str, Pipeline]
) -> None:
    synthesizer = synthesizer_class(arm)
    charged = {step.name for step in synthesizer.steps if step.charges}
    alone = {step.name for step in synthesizer.steps if step.per_image}
    assert charged, "an arm with a ledger has a mechanism"
    for node, _ in private_readers(pipelines[arm]):
        name, stage = node.name.rpartition(".")[2], (node.namespace or "").rpartition(".")[2]
        assert name in {*charged, *alone, *PUBLIC, *OWNERS_NODES} or stage in OWNERS_STAGES, name
    assert passages(pipelines[arm]) == []


@pytest.mark.parametrize("arm", UNDER_DP)
def test_every_step_that_reads_private_images_is_charged_or_of_one_image(arm: str) -> None:
    for step in synthesizer_class(arm).steps:
        assert not step.private or step.charges or step.per_image or step.name in PUBLIC, step.name


def test_a_teacher_without_noise_is_refused(pipelines: dict[str, Pipeline]) -> None:
    """The labels of the teacher that other arms share, in the place of the private one's."""
    own = pipelines["private"]
    others = [node for node in own.nodes if not node.name.endswith(".train_teacher")]
    (train_teacher,) = shared_pipeline().nodes
    planted = Node(
        train_teacher.func,
        inputs=train_teacher.inputs,
        outputs=["private.teacher", "private.teacher_recipe"],
        name="train_teacher",
    )
    charge = Node(lambda: {}, inputs=None, outputs="private.teacher_charge", name="charge")
    with pytest.raises(UserError, match=r"train_teacher reads images, .* makes private.teacher"):
        check_charged(Pipeline([*others, planted, charge]))
    check_charged(own)


def test_a_teacher_without_noise_may_not_choose_images_either(
    pipelines: dict[str, Pipeline],
) -> None:
    """Filtering by the arm's own teacher is post-processing; by that of other arms it passes the ledger."""
    own = pipelines["private"]
    (drawing,) = [node for node in own.nodes if node.name.endswith(".generate_images")]
    assert "private.teacher" in drawing.inputs
    rejecting = Node(
        lambda images, teacher: images,
        inputs=["private.word_counts", "teacher"],
        outputs="private.synthetic_images",
        name="filter_images",
    )
    others = [node for node in own.nodes if node is not drawing]
    planted = Pipeline([*others, *shared_pipeline().nodes, rejecting])
    with pytest.raises(
        UserError, match=r"filter_images reads teacher, .* private.synthetic_images"
    ):
        check_charged(planted)


def test_captions_of_members_may_not_be_drawn_from(pipelines: dict[str, Pipeline]) -> None:
    own = pipelines["private"]
    others = [node for node in own.nodes if not node.name.endswith(".generate_images")]
    peek = Node(
        lambda captions: captions,
        inputs="private.captions",
        outputs="private.synthetic_images",
        name="peek",
    )
    with pytest.raises(UserError, match=r"peek reads private.captions"):
        check_charged(Pipeline([*others, peek]))
    # Of a stage that runs alone, too: its inputs are of an earlier run.
    with pytest.raises(UserError, match="peek"):
        check_charged(Pipeline([peek]))


def test_arms_without_a_ledger_promise_nothing(pipelines: dict[str, Pipeline]) -> None:
    for arm in set(SYNTHESIZERS) - set(UNDER_DP):
        check_charged(pipelines[arm])


@pytest.mark.parametrize("arm", UNDER_DP)
def test_no_arm_under_a_ledger_chooses_by_private_images(
    arm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever switches it on: the wiring is refused before anything runs, since no mechanism pays for the choice."""
    from tckr.pipelines.arm import arm_stages

    synthesizer = synthesizer_class(arm)
    assert not synthesizer.chooses
    assert "generator_choice" not in synthesizer.model_fields
    monkeypatch.setattr(synthesizer, "chooses", True)
    wired: Pipeline = sum(arm_stages(arm).values(), Pipeline([]))
    with pytest.raises(
        UserError, match=r"descends from private images, and makes .*\.synthetic_images"
    ):
        check_charged(wired)


def test_copies_of_an_image_are_refused_under_a_ledger_for_one(
    pipelines: dict[str, Pipeline],
) -> None:
    assert arms_under_dp(pipelines["tckr"]) == []
    check_adjacency([], copies=10)
    for arm in UNDER_DP:
        found = arms_under_dp(pipelines[arm])
        assert found == [arm]
        check_adjacency(found, copies=1)
        with pytest.raises(
            UserError, match=f"10 rows of one image, and the ledger of {arm}"
        ) as one:
            check_adjacency(found, copies=10)
        assert "\n" not in str(one.value)
