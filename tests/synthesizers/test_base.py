"""What a step of an arm is given: what it declares to read, in a fit as in the graph."""

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from tckr.pipelines.arm import step_node
from tckr.synthesizers.base import Step, Synthesizer
from tckr.synthesizers.private_set import PrivateSet
from tckr.synthesizers.recycling import RecyclingOptions
from tckr.synthesizers.registry import SYNTHESIZERS, synthesizer_class


class Plain(Synthesizer):
    """Steps that return the names of what they were given."""

    steps: ClassVar[tuple[Step, ...]] = (
        Step("look", ("looks",), per_image=True, reads=()),
        Step("count", ("counts", "charge"), charges="count", reads=("looks",)),
        Step("think", ("thoughts",), private=False, reads=("counts",)),
        Step("conclude", ("end",), private=False),
        Step("compare", ("compared",)),
    )

    knowledge_recycling: RecyclingOptions

    def look(
        self, private: Any, artefacts: Mapping[str, Any], seed: int, device: str
    ) -> tuple[Any]:
        return (set(artefacts),)

    think = conclude = compare = look

    def count(
        self, private: Any, artefacts: Mapping[str, Any], seed: int, device: str
    ) -> tuple[Any, Any]:
        return set(artefacts), set(artefacts)

    def plan_prompts(self, fitted, count, seed, *, nested=False, closed=()):
        raise NotImplementedError

    def draw(self, fitted, prompts, seed, *, closed=()):
        raise NotImplementedError


def test_a_step_is_given_what_it_reads_and_without_a_list_all_that_it_may(
    private: PrivateSet,
) -> None:
    made = Plain(knowledge_recycling=RecyclingOptions()).fit(private, 0).artefacts

    assert made == {
        "looks": set(),
        "counts": {"looks"},
        "charge": {"looks"},
        "thoughts": {"counts"},
        "end": {"counts", "charge", "thoughts"},
        "compared": {"looks", "counts", "charge", "thoughts", "end"},
    }


@pytest.mark.parametrize(
    ("step", "wrong"),
    [
        (Step("early", ("x",), reads=("ends",)), "ends"),
        (Step("peek", ("x",), private=False, reads=("looks",)), "looks"),
    ],
)
def test_a_step_reads_nothing_later_and_nothing_of_one_image_unless_it_reads_images(
    step: Step, wrong: str
) -> None:
    class Wrong(Plain):
        steps: ClassVar[tuple[Step, ...]] = (Plain.steps[0], step, Step("end", ("ends",)))

    with pytest.raises(ValueError, match=f"may not read {wrong}"):
        Wrong.read_by(step)


@pytest.mark.parametrize("arm", SYNTHESIZERS)
def test_the_node_of_a_step_reads_what_its_method_does(arm: str) -> None:
    synthesizer = synthesizer_class(arm)
    for step in synthesizer.steps:
        assert step.reads is not None, step.name
        artefacts = set(step_node(step, synthesizer).inputs) & set(synthesizer.artefacts())
        assert artefacts == set(step.reads), step.name
