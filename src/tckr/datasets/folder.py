"""Base of the datasets whose artefact is a folder."""

import os
import shutil
import tempfile
from abc import abstractmethod
from glob import glob
from pathlib import Path
from typing import Any, TypeVar

from kedro.io.core import AbstractVersionedDataset, Version

T = TypeVar("T")


class FolderDataset(AbstractVersionedDataset[T, T]):
    """A versioned folder that appears under its final name only once it is complete.

    A run that is killed while writing leaves a hidden temporary sibling behind, never half an artefact that a later run
    would take for a whole one.
    """

    def __init__(
        self,
        *,
        filepath: str,
        version: Version | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Args: filepath: the folder; its versions lie below it. metadata: for plugins, not used here."""
        self.metadata = metadata
        super().__init__(
            filepath=Path(filepath),
            version=version,
            exists_function=lambda path: Path(path).exists(),
            glob_function=glob,
        )

    @abstractmethod
    def read(self, folder: Path) -> T:
        """Return what `folder` holds."""

    @abstractmethod
    def write(self, data: T, folder: Path) -> None:
        """Fill the empty `folder` with `data`."""

    def load(self) -> T:
        """Read the wanted version, the latest by default."""
        return self.read(Path(self._get_load_path()))

    def save(self, data: T) -> None:
        """Write a new version beside the old ones, then give it its name in one step."""
        target = Path(self._get_save_path())
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            self.write(data, unfinished)
            unfinished.chmod(0o777 & ~_umask())  # mkdtemp makes it private
            if target.exists():  # only without versions: a versioned target is always new
                shutil.rmtree(target)
            unfinished.rename(target)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise

    def _exists(self) -> bool:
        return Path(self._get_load_path()).exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "version": self._version}


def _umask() -> int:
    """Return the umask; the only way to read it is to set it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
