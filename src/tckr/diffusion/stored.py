"""What a training made of a generator, in a folder: an adapter, an update of every weight, or snapshots on the way."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from tckr.diffusion import snapshots, update
from tckr.diffusion.adapter import Adapter
from tckr.diffusion.snapshots import Snapshots
from tckr.diffusion.update import DenoiserUpdate

Trained: TypeAlias = Adapter | DenoiserUpdate | Snapshots

# How each kind is read, by the file that only its folder holds. An adapter is any other folder of LoRA weights.
READERS: dict[str, Callable[[Path], Trained]] = {
    update.FILE: DenoiserUpdate.load,
    snapshots.INDEX: Snapshots.load,
}


def load_trained(folder: Path) -> Trained:
    """Read the kind whose file is there, tensors on the CPU.

    Raises:
        UserError: nothing of the kind is there, or it is broken.
    """
    for name, read in READERS.items():
        if (folder / name).is_file():
            return read(folder)
    return Adapter.load(folder)


def is_trained(data: Any) -> bool:
    """Return whether something is one of these.

    >>> is_trained({"weights": 0})
    False
    """
    return isinstance(data, Adapter | DenoiserUpdate | Snapshots)
