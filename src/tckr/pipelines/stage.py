"""What every stage is made of, and how an arm takes the stages under its own name."""

from collections.abc import Collection, Sequence

from kedro.pipeline import Node, Pipeline


def as_stage(name: str, nodes: Sequence[Node]) -> Pipeline:
    """Return `nodes` as the stage `name`: one box in kedro-viz, one `--namespaces=<name>` on the command line.

    Dataset names stay plain, so that every stage finds what the others made.
    """
    return Pipeline(nodes, namespace=name, prefix_datasets_with_namespace=False)


def in_namespace(
    name: str, pipeline: Pipeline, shared: Collection[str], own_parameters: Collection[str]
) -> Pipeline:
    """Return a pipeline under a name: its datasets become `<name>.<dataset>`, except what it shares with others.

    Args:
        name: of an arm or of the sweep.
        pipeline: with plain dataset names.
        shared: datasets that keep their plain names.
        own_parameters: parameter groups that become `<name>.<group>`; all others are everybody's.
    """
    parameters = {
        entry: entry
        for entry in pipeline.inputs()
        if entry.startswith("params:") and entry.removeprefix("params:") not in own_parameters
    }
    inputs = {entry for entry in pipeline.inputs() if entry in shared}
    return Pipeline(pipeline, namespace=name, inputs=inputs, parameters=parameters)
