"""Where long work saves how far it got, so that the same command goes on from there."""

import os
import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tckr.errors import UserError


@dataclass(frozen=True)
class Checkpoint:
    """A file for the state of unfinished work, and when to write it.

    Attributes:
        path: the file; one for each piece of work. Its folder is made if it is missing.
        every: seconds between two saves.
        deadline: seconds of work in one call; after them the work is saved and stops. None never stops.
    """

    path: Path
    every: float = 60.0
    deadline: float | None = None

    def save(self, fingerprint: dict[str, Any], state: dict[str, Any]) -> None:
        """Replace the file in one step; a crash meanwhile leaves the file before.

        Args:
            fingerprint: what tells this work from other work; plain values.
            state: tensors, and plain values and containers.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._unfinished.open("wb") as file:
            torch.save({"fingerprint": fingerprint, "state": state}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(self._unfinished, self.path)

    def load(self, fingerprint: dict[str, Any]) -> dict[str, Any] | None:
        """The state saved last, its tensors on the CPU; None if there is no file.

        Raises:
            UserError: the file is damaged, or was saved by work of another fingerprint.
        """
        if not self.path.exists():
            return None
        anew = f"remove {self.path} to start from the beginning"
        try:
            saved = torch.load(self.path, map_location="cpu", weights_only=True)
            theirs, state = saved["fingerprint"], saved["state"]
        except (
            OSError,
            RuntimeError,
            EOFError,
            LookupError,
            TypeError,
            pickle.UnpicklingError,
        ) as error:
            raise UserError(f"{self.path} is not a readable checkpoint.", f"{anew}.") from error
        names = dict.fromkeys([*fingerprint, *theirs])
        different = [name for name in names if theirs.get(name) != fingerprint.get(name)]
        if different:
            raise UserError(
                f"Checkpoint {self.path} is of another recipe: {', '.join(different)} differ.",
                f"{anew}, or go back to the recipe that wrote it.",
            )
        return dict(state)

    @property
    def _unfinished(self) -> Path:
        return self.path.with_name(f".{self.path.name}.unfinished")


@dataclass(frozen=True)
class Checkpoints:
    """A folder of checkpoints, one for each part of a long job.

    A part that is finished stays there, so that it is not done again while later ones are still to come; whoever has
    saved all results removes the folder.

    Attributes:
        folder: made when the first part saves.
        deadline: as for `Checkpoint`, for each part.
    """

    folder: Path
    deadline: float | None = None

    def of(self, part: str) -> Checkpoint:
        """The checkpoint of one part."""
        return Checkpoint(self.folder / part, deadline=self.deadline)

    def remove(self) -> None:
        """Remove the folder with all that is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
