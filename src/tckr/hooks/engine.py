"""Where the shards of long stages run: on this machine, or on the Ray cluster that the parameters name."""

import logging
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl

from tckr.engine import EngineOptions, use_engine
from tckr.lineage import FOLDER

logger = logging.getLogger(__name__)

SHARDS = ".shards.jsonl"  # beside a run's manifest: who did which shard


class Engine:
    """Connects to the cluster before the first stage, so that one that is not there is known at once, and leaves it."""

    def __init__(self) -> None:
        """Start on this machine."""
        self._options = EngineOptions()
        self._data = Path()
        self._run = ExitStack()

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Read the parameter group `engine`, which no stage reads: it changes no result."""
        loader = context.config_loader
        self._data = Path(context.project_path) / loader["globals"]["data"]
        self._options = EngineOptions.model_validate(loader["parameters"].get("engine", {}))

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any]) -> None:
        """Connect."""
        self.on_interrupt()
        log = self._data / FOLDER / f"{run_params['run_id']}{SHARDS}"
        told = self._run.enter_context(use_engine(self._options, log))
        if self._options.kind != "local":
            logger.info("Shards run on %s.", told)

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Leave the cluster."""
        self.on_interrupt()

    @hook_impl
    def on_pipeline_error(self) -> None:
        """Leave the cluster."""
        self.on_interrupt()

    def on_interrupt(self) -> None:
        """Leave the cluster, however the run ended."""
        self._run.close()
