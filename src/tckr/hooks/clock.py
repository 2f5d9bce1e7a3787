"""Where the time went."""

import time

from kedro.framework.hooks import hook_impl
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node


class Clock:
    """Seconds of wall time by node, loading and saving included."""

    def __init__(self) -> None:
        """Start empty."""
        self.seconds: dict[str, float] = {}
        self._node: str | None = None
        self._since = 0.0

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline) -> None:
        """Forget the run before: notebooks and tests run several in one process."""
        self.seconds, self._node = {}, None

    @hook_impl
    def before_dataset_loaded(self, node: Node) -> None:
        """A node's time starts with the loading of its first input."""
        self._switch(node.name)

    @hook_impl
    def after_dataset_saved(self, node: Node) -> None:
        """Count up to the last thing saved."""
        self._switch(node.name)

    @property
    def stages(self) -> dict[str, float]:
        """Seconds by stage."""
        total: dict[str, float] = {}
        for name, seconds in self.seconds.items():
            stage = name.rpartition(".")[0] or name
            total[stage] = total.get(stage, 0.0) + seconds
        return total

    def _switch(self, node: str) -> None:
        now = time.perf_counter()
        if self._node is not None:
            self.seconds[self._node] = self.seconds.get(self._node, 0.0) + now - self._since
        self._node, self._since = node, now
