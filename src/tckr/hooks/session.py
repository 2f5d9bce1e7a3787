"""A Kedro session whose run has an identifier of its own, and may take up an unfinished run."""

from pathlib import Path
from typing import Any

from kedro.framework.session import KedroSession
from kedro.runner import SequentialRunner

from tckr.hooks.restore import RESUME
from tckr.hooks.turns import InTurn
from tckr.lineage import FOLDER, Runs


class Session(KedroSession):
    """Kedro's session, with three things that must be settled before a run's hooks are called.

    * Two runs that start in the same millisecond get different identifiers, which are the versions of what they save.
    * `resume` asks the runner to leave out nodes whose outputs exist. Which exist is decided by `Lineage`, which lets the
      catalog see only what is whole and agrees with today's parameters and files.
    * Several arms run one after the other; see `tckr.hooks.turns`.
    """

    def run(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Run as Kedro does."""
        if RESUME in (self.store.get("runtime_params") or {}):
            kwargs["only_missing_outputs"] = True
        runner = kwargs.get("runner")
        if runner is None or type(runner) is SequentialRunner:
            kwargs["runner"] = InTurn(is_async=runner is not None and runner._is_async)
        runs = Runs(
            self._project_path / Path(self._get_config_loader()["globals"]["data"]) / FOLDER
        )
        self.session_id = self._store["session_id"] = runs.claim(self.store["session_id"])
        try:
            result: dict[str, Any] = super().run(*args, **kwargs)
            return result
        finally:
            runs.release(self.session_id)
