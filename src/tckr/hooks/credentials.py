"""Hand the keys of Kedro's credentials to whoever asks an endpoint, and to nobody else."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kedro.config import MissingConfigException
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl

from tckr.engine.credentials import hold


class Credentials:
    """Keys go from `conf/local/credentials.yml` to the process's environment: no parameter, entry or record holds one."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Read them, where there are any; those of `--env` come before those of conf/local, which Kedro would leave out."""
        loader = context.config_loader
        hold({**_of_local(loader), **_of_environment(loader)})


def _of_environment(loader: Any) -> Mapping[str, Any]:
    try:
        return loader["credentials"] or {}
    except MissingConfigException:
        return {}


def _of_local(loader: Any) -> Mapping[str, Any]:
    """Read conf/local with the loader at hand: a second one would take over OmegaConf's resolvers, which are global."""
    folder = str(Path(loader.conf_source) / loader.default_run_env)
    patterns = loader.config_patterns["credentials"]
    try:
        return loader.load_and_merge_dir_config(folder, patterns, "credentials", set(), True) or {}
    except MissingConfigException:
        return {}
