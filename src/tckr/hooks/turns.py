"""Arms run one after the other, so that one that fails leaves those before it finished."""

import logging
from typing import Any

from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro.runner import SequentialRunner

from tckr.synthesizers.registry import SYNTHESIZERS


class InTurn(SequentialRunner):
    """Kedro's sequential runner, with the nodes of several arms in turn.

    Kedro sorts nodes by their distance from the start, and would go back and forth between the arms.
    """

    @property
    def _logger(self) -> logging.Logger:
        """Log under Kedro's name, not under that of this module: conf/logging.yml keeps Kedro quiet."""
        return logging.getLogger(SequentialRunner.__module__)

    def _run(self, pipeline: Pipeline, *args: Any, **kwargs: Any) -> None:
        super()._run(_Ordered(pipeline), *args, **kwargs)


class _Ordered(Pipeline):
    """A pipeline that gives its nodes in turn."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._in_turn = in_turn(pipeline)
        super().__init__(pipeline)

    @property
    def nodes(self) -> list[Node]:
        return list(self._in_turn)


def in_turn(pipeline: Pipeline) -> list[Node]:
    """Return the nodes in an order in which they can run: what arms share as early as it can, then arm after arm.

    Arms are the boxes of their name, in the order of the registry; a pipeline without such boxes keeps Kedro's order.
    """
    turns = {arm: place for place, arm in enumerate(SYNTHESIZERS)}
    places = {
        node: turns.get((node.namespace or "").partition(".")[0], -1) for node in pipeline.nodes
    }
    needed = pipeline.node_dependencies
    waiting, done, ordered = list(places), set[Node](), list[Node]()
    while waiting:
        ready = [node for node in waiting if needed[node] <= done]
        ordered.append(min(ready, key=places.__getitem__))
        done.add(ordered[-1])
        waiting.remove(ordered[-1])
    return ordered
