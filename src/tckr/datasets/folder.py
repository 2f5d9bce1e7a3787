"""Bases of the datasets: a versioned folder or file that appears under its name only once it is complete."""

import os
import shutil
import tempfile
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import glob
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from kedro.io.core import AbstractVersionedDataset, Version

from tckr.disk import writing

T = TypeVar("T")


class _WholeDataset(AbstractVersionedDataset[T, T]):
    """A versioned path, loaded by `read`, and written by `write` under a temporary name beside the final one.

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
        """Args: filepath: the artefact; its versions lie below it. metadata: for plugins, not used here."""
        self.metadata = metadata
        super().__init__(
            filepath=Path(filepath),
            version=version,
            exists_function=lambda path: Path(path).exists(),
            glob_function=glob,
        )

    @abstractmethod
    def read(self, path: Path) -> T:
        """Return what `path` holds."""

    @abstractmethod
    def write(self, data: T, path: Path) -> None:
        """Write `data` to `path`."""

    def load(self) -> T:
        """Read the requested version, the latest by default."""
        return self.read(Path(self._get_load_path()))

    def _exists(self) -> bool:
        return Path(self._get_load_path()).exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "version": self._version}


class FolderDataset(_WholeDataset[T]):
    """A versioned folder; subclasses define `read(folder)` and `write(data, folder)`, which fills the empty folder.

    >>> class Note(FolderDataset[str]):
    ...     def read(self, folder: Path) -> str:
    ...         return (folder / "note.txt").read_text()
    ...
    ...     def write(self, data: str, folder: Path) -> None:
    ...         _ = (folder / "note.txt").write_text(data)
    >>> note = Note(filepath=f"{tempfile.mkdtemp()}/note")
    >>> note.save("a small bag")
    >>> note.load()
    'a small bag'
    """

    def save(self, data: T) -> None:
        """Write a new version beside the old ones, then give it its name in one step."""
        with _placed(Path(self._get_save_path())) as target:
            unfinished = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
            try:
                self.write(data, unfinished)
                _follow_umask(unfinished)
                if target.exists():  # only without versions: a versioned target is always new
                    shutil.rmtree(target)
                unfinished.rename(target)
            except BaseException:
                shutil.rmtree(unfinished, ignore_errors=True)
                raise


class FileDataset(_WholeDataset[T]):
    """A versioned file; subclasses define `read(file)` and `write(data, file)`."""

    def save(self, data: T) -> None:
        """Write a new version beside the old ones, then give it its name in one step."""
        with written_whole(Path(self._get_save_path())) as unfinished:
            self.write(data, unfinished)


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """Give a temporary name beside `target`, whose file takes the target's name once the block has written it.

    Raises:
        UserError: the disk is full.
    """
    with _placed(target):
        unfinished = target.with_name(f".{target.name}-{uuid4().hex}")
        try:
            yield unfinished
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)


@contextmanager
def _placed(target: Path) -> Iterator[Path]:
    """Make the folder that `target` is written to; take it away again if nothing was written."""
    new = not target.parent.exists()
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield target
        except BaseException:
            if new:
                with suppress(OSError):  # something else is in it
                    target.parent.rmdir()
            raise


def _follow_umask(folder: Path) -> None:
    """Give the folder and all that is in it the permissions of newly created files.

    `mkdtemp` makes a folder private, and safetensors its files.
    """
    mask = os.umask(0)  # the only way to read the umask is to set it
    os.umask(mask)
    for path in (folder, *folder.rglob("*")):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)
