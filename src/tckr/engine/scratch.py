"""Temporary files, which may hold private images: readable by their owner alone, and gone with their process.

A run names the place once (`use_folder`); worker processes inherit it. What a killed process left there, the next run
removes.

>>> import tempfile
>>> place = Path(tempfile.mkdtemp())
>>> with use_folder(place), scratch("work") as folder:
...     folder.is_relative_to(place)
True
>>> list(place.iterdir())
[]
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from tckr.process import Process

VARIABLE = "TCKR_SCRATCH"  # the folder of the run; its worker processes inherit it


@contextmanager
def use_folder(place: Path) -> Iterator[None]:
    """Let every `scratch` within the block lie below `place`; remove what processes that ended have left there."""
    sweep(place)
    own, before = place / Process.this().name, os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(own)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = before
        shutil.rmtree(own, ignore_errors=True)  # of workers that were stopped too


def sweep(place: Path) -> None:
    """Remove the folders below `place` whose processes have ended."""
    for folder in place.glob("*_*_*_*"):
        process = Process.named(folder.name)
        if process is not None and process.has_ended:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def scratch(kind: str) -> Iterator[Path]:
    """Create a folder that only its owner can read, and remove it at the end of the block.

    It lies where the run says, and in the system's folder for temporary files where no run does.

    Args:
        kind: what it is for, the beginning of its name.
    """
    place = os.environ.get(VARIABLE)
    if place is not None:
        Path(place).mkdir(mode=0o700, parents=True, exist_ok=True)
    with TemporaryDirectory(
        prefix=f"tckr-{kind}-", dir=place, ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)
    if place is not None:
        with suppress(OSError):  # another one is in use
            Path(place).rmdir()


def private_opener(path: str, flags: int) -> int:
    """Open a file that only its owner can read, whatever the umask: `open(path, "wb", opener=private_opener)`."""
    return os.open(path, flags, 0o600)
