"""Places where work is kept: a folder, or a URL of an object store that other machines reach too."""

import shutil
from io import BytesIO
from pathlib import Path
from typing import Any, cast

from tckr.errors import UserError

MARK = "://"


def place(name: str) -> Path:
    """Return a folder or file by its path, or by an fsspec URL, which is used alike.

    Raises:
        UserError: a URL, and the package that reads it is missing.

    >>> place("data/02_intermediate") == Path("data/02_intermediate")
    True
    """
    if MARK not in name:
        return Path(name)
    try:
        from upath import UPath

        found: Any = UPath(name)
        found.fs  # noqa: B018  the package of this kind of URL is imported here
    except (ImportError, ValueError) as error:
        raise UserError(
            f"{name} cannot be opened: {error}.",
            "pip install 'tckr[storage]' for s3:// and memory://, fsspec's package for another kind, or give a folder.",
        ) from None
    return cast("Path", found)


def is_local(path: Path) -> bool:
    """Whether a place is a path of this machine's file system.

    >>> is_local(place("data"))
    True
    """
    return isinstance(path, Path)


def listed(folder: Path, pattern: str) -> list[Path]:
    """Return what a folder holds now; libraries of object stores remember what they have seen there."""
    if not is_local(folder):
        remote: Any = folder
        remote.fs.invalidate_cache()
    return list(folder.glob(pattern))


def write_object(path: Path, content: BytesIO) -> None:
    """Write an object of a store whole: nothing is there before all of it is."""
    path.write_bytes(content.getbuffer())


def remove_tree(path: Path) -> None:
    """Remove a folder with all that is in it, if it is there."""
    if is_local(path):
        shutil.rmtree(path, ignore_errors=True)
        return
    remote: Any = path
    if remote.exists():
        remote.fs.rm(remote.path, recursive=True)
