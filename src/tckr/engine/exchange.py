"""What every worker of a job needs, and what workers hand back: files at a place that all machines reach.

Workers run the code that they read here. So the command tells them its hash by another way, and nothing else is run.
"""

import hashlib
import io
import itertools
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tckr.engine.mapped import scratch_file
from tckr.engine.places import is_local, listed, place, remove_tree
from tckr.engine.rows import PART, Shared, map_file
from tckr.engine.scratch import private_opener, scratch
from tckr.errors import UserError
from tckr.process import Process

WORK = "work.pickle"
_numbers = itertools.count()


@dataclass(frozen=True)
class Sent:
    """Some work that was written down: where, and the SHA-256 of what is to be read there."""

    folder: Path
    digest: str


@contextmanager
def exchange(storage: str | None) -> Iterator[Path]:
    """Make a folder for one job, and remove it at the end of the block.

    Args:
        storage: folder or URL; None for the run's temporary files.
    """
    if storage is None:
        with scratch("shards") as folder:
            yield folder.absolute()
        return
    folder = _below(storage) / f"job-{next(_numbers)}"
    if is_local(folder):
        folder.mkdir(mode=0o700, parents=True)
    try:
        yield folder
    finally:
        remove_tree(folder)


def sweep(storage: str | None) -> None:
    """Remove what processes that have ended left of their jobs."""
    if storage is None:
        return
    for folder in listed(place(storage), "*_*_*_*"):
        process = Process.named(folder.name)
        if process is not None and process.has_ended:
            remove_tree(folder)


def leave(storage: str | None) -> None:
    """Remove what this process left of its jobs."""
    if storage is not None:
        remove_tree(_below(storage))


def send(folder: Path, work: Any) -> Sent:
    """Write down what all workers need; large tensors (`Shared`) go beside it, to files that are mapped."""
    content = io.BytesIO()
    _Pickler(content, folder).dump(work)
    _write(folder / WORK, content.getbuffer())
    return Sent(folder, hashlib.sha256(content.getbuffer()).hexdigest())


def receive(sent: Sent) -> Any:
    """Return what `send` wrote.

    Raises:
        UserError: it cannot be read here, or somebody else has changed it.
    """
    path = sent.folder / WORK
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{Process.this().host} cannot read {path} ({error}).",
            "set engine.storage to a folder or URL that every node of the cluster reads and writes.",
        ) from None
    if hashlib.sha256(content).hexdigest() != sent.digest:
        raise UserError(
            f"{path} is not what was written there.", "let nobody else write to engine.storage."
        )
    return _Unpickler(io.BytesIO(content), sent.folder).load()


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, folder: Path) -> None:
        super().__init__(file, protocol=5)
        self._folder = folder
        self._names: dict[int, Any] = {}
        self._held: list[Shared] = []  # as long as their ids count

    def persistent_id(self, value: Any) -> Any:
        if not isinstance(value, Shared):
            return None
        if id(value) not in self._names:
            tensor, name = value.tensor, f"tensor-{len(self._names)}"
            with _opened(self._folder / name) as file:
                for part in tensor.split(PART):
                    file.write(part.contiguous().numpy().data)
            self._names[id(value)] = (name, tensor.dtype, tuple(tensor.shape))
            self._held.append(value)
        return self._names[id(value)]


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, folder: Path) -> None:
        super().__init__(file)
        self._folder = folder
        self._tensors: dict[str, Any] = {}

    def persistent_load(self, value: Any) -> Any:
        name, dtype, shape = value
        if name not in self._tensors:
            with _local(self._folder / name) as file:
                self._tensors[name] = map_file(file, dtype, shape)
        return self._tensors[name]


def _local(path: Path) -> Any:
    """Open a file for mapping; of an object store, a copy on this machine's disk."""
    if is_local(path):
        return path.open("r+b")
    copy = scratch_file()
    with path.open("rb") as file:
        while part := file.read(1 << 24):
            copy.write(part)
    copy.flush()
    return copy


def _opened(path: Path) -> Any:
    return open(path, "wb", opener=private_opener) if is_local(path) else path.open("wb")


def _write(path: Path, content: Any) -> None:
    with _opened(path) as file:
        file.write(content)


def _below(storage: str) -> Path:
    folder = place(storage)
    return (folder.absolute() if is_local(folder) else folder) / Process.this().name
