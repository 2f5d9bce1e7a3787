"""Hand the keys of Kedro's credentials to whoever asks an endpoint, and to nobody else."""

from kedro.config import MissingConfigException
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl

from tckr.engine.credentials import hold


class Credentials:
    """Keys go from `conf/local/credentials.yml` to the process's memory: no parameter, entry or record holds one."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Read them, where there are any."""
        try:
            found = context.config_loader["credentials"]
        except MissingConfigException:
            found = {}
        hold(found or {})
