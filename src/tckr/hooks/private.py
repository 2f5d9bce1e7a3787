"""What is private is readable by its owner alone, and lies in the data folder while it lies anywhere."""

import os
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.io.core import AbstractVersionedDataset

from tckr.engine.scratch import use_folder
from tckr.hooks.project import saved_path

SCRATCH = "02_intermediate/scratch"  # of temporary files, in the data folder
OTHERS = 0o077


class Private:
    """Everything a run writes is its owner's alone, except what the catalog marks as `metadata: {released: true}`.

    The umask sees to it that nothing is readable by others even for a moment; the release is opened once it is saved, to
    whom the user's own umask says. Temporary files lie in the data folder too.
    """

    def __init__(self) -> None:
        """Start with no run."""
        self._data = self._top = Path()
        self._catalog: CatalogProtocol | None = None
        self._umask: int | None = None
        self._run = ExitStack()

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Learn where the data folder is."""
        project = Path(context.project_path)
        self._data = project / context.config_loader["globals"]["data"]
        self._top = project if self._data.is_relative_to(project) else self._data.parent

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, catalog: CatalogProtocol) -> None:
        """Close the door, and remove what killed runs have left."""
        self.on_interrupt()
        self._catalog = catalog
        self._umask = os.umask(OTHERS)
        self._run.enter_context(use_folder(self._data / SCRATCH))

    @hook_impl
    def after_dataset_saved(self, dataset_name: str) -> None:
        """Set the permissions of what was saved."""
        dataset: Any = self._catalog.get(dataset_name) if self._catalog is not None else None
        if getattr(dataset, "_filepath", None) is None:
            return
        path = saved_path(dataset)
        if (getattr(dataset, "metadata", None) or {}).get("released"):
            open_to_others(path, self._top, OTHERS if self._umask is None else self._umask)
        else:
            close_to_others(path)
            if isinstance(dataset, AbstractVersionedDataset) and dataset._version is not None:
                close_to_others(Path(dataset._filepath), deep=False)  # of versions, older ones too

    @hook_impl(trylast=True)
    def after_pipeline_run(self) -> None:
        """Open the door again."""
        self.on_interrupt()

    @hook_impl(trylast=True)
    def on_pipeline_error(self) -> None:
        """Open the door again."""
        self.on_interrupt()

    def on_interrupt(self) -> None:
        """Open the door again, however the run ended."""
        self._run.close()
        if self._umask is not None:
            os.umask(self._umask)
            self._umask = None


def close_to_others(path: Path, deep: bool = True) -> None:
    """Let the owner alone read a file, or a folder and all that is in it.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "file"
    >>> file.touch(0o644)
    >>> close_to_others(file)
    >>> oct(file.stat().st_mode & 0o777)
    '0o600'
    """
    for one in (path, *(path.rglob("*") if deep and path.is_dir() else ())):
        with suppress(OSError):  # somebody else's, or a file system without permissions
            one.chmod(one.stat().st_mode & ~OTHERS & 0o777)


def open_to_others(path: Path, top: Path, umask: int) -> None:
    """Let everybody whom `umask` does not exclude read an artefact, and enter the folders that lead to it.

    Args:
        path: file or folder.
        top: a folder above it, which is left as it is, and so is all above.
        umask: the user's own.
    """
    readable = 0o444 & ~umask
    for one in (path, *(path.rglob("*") if path.is_dir() else ())):
        with suppress(OSError):
            enter = 0o111 & ~umask if one.is_dir() else 0
            one.chmod(one.stat().st_mode & 0o777 | readable | enter)
    for folder in path.parents:
        if folder == top or not folder.is_relative_to(top):
            break
        with suppress(OSError):
            folder.chmod(folder.stat().st_mode & 0o777 | (0o555 & ~umask))
