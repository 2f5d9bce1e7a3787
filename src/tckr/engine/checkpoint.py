"""Save the progress of long work, so that the same command resumes it.

>>> import tempfile
>>> work = {"captioner": "blip2", "prompt": None}
>>> checkpoints = Checkpoints(Path(tempfile.mkdtemp()) / fingerprint(work))
>>> first = checkpoints.of("first")
>>> first.load(work) is None
True
>>> first.save(work, {"captions": ["a small bag"]})
>>> first.load(work)
{'captions': ['a small bag']}
>>> checkpoints.remove()
>>> first.path.exists()
False
"""

import hashlib
import os
import pickle
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import torch

from tckr.disk import writing
from tckr.engine.places import is_local, listed, write_object
from tckr.errors import UserError

SUFFIX = ".checkpoint"


def fingerprint(*parts: Any) -> str:
    """Return 16 hex digits that name a piece of work.

    Args:
        parts: everything that changes the result, as plain values whose `repr` says all of them.

    >>> fingerprint("a", 1) == fingerprint("a", 1) != fingerprint("a", 2)
    True
    """
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def data_identity(recipe: Any, *data: torch.Tensor) -> dict[str, str]:
    """Return what tells a training on these data from one on others, for its checkpoint.

    Args:
        recipe: everything else that changes the result, as for `fingerprint`.
        data: tensors of any type, on the CPU.

    >>> data_identity("recipe", torch.zeros(2)) == data_identity("recipe", torch.zeros(3))
    False
    """
    digest = hashlib.sha256()
    for tensor in data:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy().data)
    return {"data": digest.hexdigest()[:16], "recipe": fingerprint(recipe)}


@dataclass(frozen=True)
class Checkpoint:
    """A file that holds the state of unfinished work.

    Attributes:
        path: the file, one per piece of work; its folder is created when needed.
        every: seconds between two saves.
        deadline: seconds of work in one call, after which the state is saved and the work stops. None never stops.
    """

    path: Path
    every: float = 60.0
    deadline: float | None = None

    def save(self, fingerprint: dict[str, Any], state: dict[str, Any]) -> None:
        """Replace the file in one step; a crash while saving leaves the previous file in place.

        Args:
            fingerprint: what distinguishes this work from other work; plain values.
            state: tensors, and plain values and containers.
        """
        saved = {"fingerprint": fingerprint, "state": state}
        write_whole(self.path, lambda file: torch.save(saved, file))

    def load(self, fingerprint: dict[str, Any]) -> dict[str, Any] | None:
        """Return the state saved last, its tensors on the CPU; None if there is no file.

        Raises:
            UserError: the file is damaged, or was saved by work with another fingerprint.
        """
        restart = f"remove {self.path} to start from the beginning"
        try:
            with self.path.open("rb") as file:
                saved = torch.load(file, map_location="cpu", weights_only=True)
            theirs, state = saved["fingerprint"], saved["state"]
        except FileNotFoundError:
            return None  # never saved, or removed by another process that finished the same work
        except (
            OSError,
            RuntimeError,
            EOFError,
            LookupError,
            TypeError,
            pickle.UnpicklingError,
        ) as error:
            raise UserError(f"{self.path} is not a readable checkpoint.", f"{restart}.") from error
        names = dict.fromkeys([*fingerprint, *theirs])
        different = [name for name in names if theirs.get(name) != fingerprint.get(name)]
        if different:
            raise UserError(
                f"Checkpoint {self.path} is of another recipe: {', '.join(different)} differ.",
                f"{restart}, or go back to the recipe that wrote it.",
            )
        return dict(state)


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one long job, one file per part.

    A finished part keeps its file, so that it is not repeated while later parts are still to come. Once all results are
    saved elsewhere, the caller removes the checkpoints.

    Attributes:
        folder: of this job alone, named by its fingerprint: `Checkpoints(folder / fingerprint(...))`. Other jobs, other
            seeds of the same job among them, keep their own beside it. Created when the first part saves. It may be a
            URL, see `tckr.engine.places`.
        deadline: as for `Checkpoint`, for each part.
    """

    folder: Path
    deadline: float | None = None

    def of(self, part: str) -> Checkpoint:
        """Return the checkpoint of one part."""
        return Checkpoint(self.folder / f"{part}{SUFFIX}", deadline=self.deadline)

    def remove(self) -> None:
        """Remove the checkpoints, then the folder unless it holds anything else.

        What a killed process had not finished writing is removed too.
        """
        for pattern in (f"*{SUFFIX}", f".*{SUFFIX}.*"):
            for file in listed(self.folder, pattern):
                file.unlink(missing_ok=True)
        if is_local(self.folder):  # an object store has no folders
            with suppress(OSError):  # not empty, or not there
                self.folder.rmdir()

    def parts(self) -> set[str]:
        """Return the names of the parts that have a checkpoint."""
        return {file.name.removesuffix(SUFFIX) for file in listed(self.folder, f"[!.]*{SUFFIX}")}


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a file that replaces `path` in one step; the folder is made if it is not there.

    Raises:
        UserError: the disk is full.
    """
    if not is_local(path):
        content = BytesIO()
        write(content)
        write_object(path, content)
        return
    try:
        _write_whole(path, write)
    except FileNotFoundError:
        # Another process that did the same work has finished it and removed the folder.
        _write_whole(path, write)


def _write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # A name of its own: two processes that do the same work must not write into one file.
        unfinished = path.with_name(f".{path.name}.{uuid4().hex}")
        try:
            with unfinished.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
