"""Arms run one after the other, whatever else a pipeline holds."""

from itertools import groupby

from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline
from kedro.runner import SequentialRunner

from tckr.hooks.turns import InTurn, in_turn
from tckr.synthesizers.registry import SYNTHESIZERS


def node(name: str, source: str | list[str], target: str, box: str | None = None) -> Node:
    return Node(lambda *values: sum(values) + 1, source, target, name=name, namespace=box)


def arms() -> Pipeline:
    """Each of two arms has two steps; both read what is shared, and are summed in the end."""
    boxes = list(SYNTHESIZERS)[:2]
    nodes = [node("read", "raw", "shared", "ingestion")]
    for box in reversed(boxes):
        nodes += [
            node("draw", "shared", f"{box}.drawn", f"{box}.drawing"),
            node("audit", f"{box}.drawn", f"{box}.audit", f"{box}.auditing"),
        ]
    nodes.append(node("compare", [f"{box}.audit" for box in boxes], "sum", "comparison"))
    return Pipeline(nodes)


def test_an_arm_is_finished_before_the_next_begins() -> None:
    names = [node.name for node in in_turn(arms())]
    boxes = [box for box, _ in groupby(name.partition(".")[0] for name in names)]

    assert boxes == ["ingestion", *list(SYNTHESIZERS)[:2], "comparison"]
    kedro = [node.name.partition(".")[0] for node in arms().nodes]
    assert len(list(groupby(kedro))) > 4  # or there would be nothing to put in order


def test_a_pipeline_without_arms_keeps_kedros_order() -> None:
    plain = Pipeline([node("b", "raw", "y"), node("a", "raw", "x"), node("c", ["x", "y"], "z")])

    assert in_turn(plain) == plain.nodes


def test_the_runner_keeps_to_the_order_and_gives_what_kedros_gives() -> None:
    ran: list[str] = []

    def noted(one: Node) -> Node:
        def call(*values: int) -> int:
            ran.append(one.name)
            return sum(values) + 1

        return Node(call, one.inputs, one.outputs[0], name=one.short_name, namespace=one.namespace)

    pipeline = Pipeline([noted(one) for one in arms().nodes])

    def total(runner: SequentialRunner) -> int:
        catalog = DataCatalog({"raw": MemoryDataset(1)})
        return runner.run(pipeline, catalog)["sum"].load()

    found = total(InTurn())
    assert ran == [node.name for node in in_turn(pipeline)]
    assert found == total(SequentialRunner())
