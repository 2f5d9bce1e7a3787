"""Say in one line that a disk is full, whoever was writing to it."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tckr.errors import UserError

FULL = {errno.ENOSPC, errno.EDQUOT}
# What the libraries say that lose the error number on the way: torch, safetensors, Arrow, SQLite.
SAID = (
    "no space left on device",
    "disk quota exceeded",
    "database or disk is full",
    "file write failed",
    "unexpected pos",
)
GIB = 1 << 30


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say what to do if there is no room for `path`, which the block writes; it leaves nothing behind itself.

    >>> with writing(Path("data/06_models/adapter")):  # doctest: +IGNORE_EXCEPTION_DETAIL
    ...     raise OSError(errno.ENOSPC, "No space left on device")
    Traceback (most recent call last):
    tckr.errors.UserError: The disk ... is full: ...

    Raises:
        UserError: the disk, or the quota of its user, is full.
    """
    try:
        yield
    except Exception as error:
        if is_full(error):
            raise no_room(path) from error
        raise


def is_full(error: BaseException) -> bool:
    """Whether `error` came of a full disk, directly or not.

    >>> is_full(RuntimeError("[enforce fail at inline_container.cc] . unexpected pos 64 vs 0"))
    True
    >>> is_full(OSError(errno.EACCES, "Permission denied"))
    False
    """
    link: BaseException | None = error
    while link is not None:
        said = str(link).lower()
        if getattr(link, "errno", None) in FULL or any(words in said for words in SAID):
            return True
        link = link.__cause__ or link.__context__
    return False


def explained(error: BaseException) -> UserError | None:
    """Return the one line for an error of a full disk that nobody explained where it arose; None for any other."""
    if not is_full(error):
        return None
    link: BaseException | None = error
    while link is not None:
        if isinstance(name := getattr(link, "filename", None), str | os.PathLike):
            return no_room(Path(name))
        if "database" in str(link):
            return no_room(Path("mlflow.db"))
        link = link.__cause__ or link.__context__
    return no_room(Path("data"))


def no_room(path: Path) -> UserError:
    """Return the error of a disk that has no room for `path`."""
    folder = path.absolute().parent
    while not folder.exists():
        folder = folder.parent
    disk = folder
    while not os.path.ismount(disk) and disk != disk.parent:
        disk = disk.parent
    size = shutil.disk_usage(disk).total / GIB
    shown = f"{size:,.0f} GiB" if size >= 1 else f"{size * 1024:,.1f} MiB"
    return UserError(
        f"The disk {disk} ({shown}) is full: there was no room to write {path}.",
        "make room on it, or set `data` in conf/local/globals.yml to a folder on another disk; whatever was finished is"
        " kept, and the same command with --params=resume=last goes on from there.",
    )
