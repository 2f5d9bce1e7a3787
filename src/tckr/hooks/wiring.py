"""Pipelines whose nodes follow from parameters are wired once the parameters are known."""

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines

from tckr.pipeline_registry import wired


class Wiring:
    """Kedro registers pipelines before it reads parameters; those that depend on them are registered again here."""

    @hook_impl(trylast=True)
    def after_context_created(self, context: KedroContext) -> None:
        """Wire them, after the parameters have been checked."""
        for name, pipeline in wired(context.config_loader["parameters"], pipelines).items():
            pipelines[name] = pipeline
