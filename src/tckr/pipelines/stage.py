"""What every stage is made of."""

from collections.abc import Sequence

from kedro.pipeline import Node, Pipeline


def as_stage(name: str, nodes: Sequence[Node]) -> Pipeline:
    """Return `nodes` as the stage `name`: one box in kedro-viz, one `--namespaces=<name>` on the command line.

    Dataset names stay plain, so that every stage finds what the others made.
    """
    return Pipeline(nodes, namespace=name, prefix_datasets_with_namespace=False)
