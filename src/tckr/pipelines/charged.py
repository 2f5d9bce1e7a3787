"""Follow private images through the nodes of an arm under differential privacy, and stop where they pass its ledger.

A node whose step names the mechanism that pays for it gives out noisy answers: what it makes is not private any more. A few
nodes take public facts of the private images (`PUBLIC`). Whatever else reads something that descends from private images
makes something private: captions, the audit, the report are for the owner's eyes. None of that may reach what is released.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from tckr.errors import UserError
from tckr.synthesizers.registry import SYNTHESIZERS, synthesizer_class

# Where private images lie: the files, and the table that ingestion makes of them.
SOURCES = ("raw_images", "images")
# Nodes that take of private images what the ledger declares to be public: their number, classes and size, and a hash.
PUBLIC = ("state_public_facts", "plan_budget")
# What an arm under differential privacy hands out, or makes that from.
RELEASED = ("synthetic_images", "recycled_set", "teacher", "student", "adapter")


class Passage(NamedTuple):
    """A way past the ledger: a node that reads something private, and makes something that is released."""

    node: str
    reads: str
    makes: str


def check_charged(pipeline: Pipeline) -> None:
    """Check that nothing private reaches what arms under differential privacy release, but through their ledgers.

    Raises:
        UserError: something does.
    """
    for passage in passages(pipeline):
        raise UserError(
            f"{passage.node} reads {passage.reads}, which descends from private images, and makes {passage.makes}, which"
            " is under differential privacy: no mechanism of the ledger pays for that.",
            "let a step with `charges` read it, or leave it out.",
        )


def passages(pipeline: Pipeline) -> list[Passage]:
    """Return every way past the ledgers of the arms in a pipeline, in the order of its nodes."""
    return [
        Passage(node.name, read, name)
        for node, read in private_readers(pipeline)
        if not _answers_in_noise(node)
        for name in node.outputs
        if _under_ledger(name)
    ]


def arms_under_dp(pipeline: Pipeline) -> list[str]:
    """Return the arms under differential privacy of which a pipeline has nodes, in the order of their names."""
    arms = {(node.namespace or "").partition(".")[0] for node in pipeline.nodes}
    return sorted(arms.intersection(_under_dp()))


def check_adjacency(arms: Sequence[str], copies: int) -> None:
    """Check that one image of the private set is one row of it: ledgers bound what one row changes.

    Args:
        arms: Of `arms_under_dp`.
        copies: Rows of each duplicated canary; 1: there are none.

    Raises:
        UserError: An image is there several times. A ledger's guarantee for k rows is k times as weak, so that attacks on
            canaries would be held against a bound that is not theirs.
    """
    if arms and copies > 1:
        raise UserError(
            f"ingestion.canaries.duplicated plants {copies} rows of one image, and the ledger of {arms[0]} is for one.",
            "set it to 0, or take an arm without differential privacy, such as tckr.",
        )


def private_readers(pipeline: Pipeline) -> list[tuple[Node, str]]:
    """Return the nodes that read something that descends from private images, and the first such thing by name."""
    private = {name for name in pipeline.inputs() if _starts_private(name)}
    readers = []
    for node in pipeline.nodes:
        if read := sorted(private.intersection(node.inputs)):
            readers.append((node, read[0]))
            if not _answers_in_noise(node):
                private.update(node.outputs)
    return readers


def _answers_in_noise(node: Node) -> bool:
    name = _short(node)
    if name in PUBLIC:
        return True
    arm = (node.namespace or "").partition(".")[0]
    if arm not in _under_dp():
        return False
    return any(step.name == name and step.charges for step in synthesizer_class(arm).steps)


def _starts_private(name: str) -> bool:
    """Whether a free input is private: the images, or what a step made of each of them."""
    arm, _, artefact = name.rpartition(".")
    if name in SOURCES:
        return True
    return arm in _under_dp() and artefact in synthesizer_class(arm).artefacts(per_image=True)


def _under_ledger(name: str) -> bool:
    arm, _, artefact = name.rpartition(".")
    return arm in _under_dp() and artefact in RELEASED


def _short(node: Node) -> str:
    return node.name.rpartition(".")[2]


def _under_dp() -> Iterable[str]:
    return [arm for arm in SYNTHESIZERS if synthesizer_class(arm).ledger()]
