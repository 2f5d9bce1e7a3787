"""Check that a machine can hold what a run is about to draw."""

import shutil
from math import prod
from typing import TYPE_CHECKING

from tckr.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

GIB = 1 << 30
# Bytes of memory per image beside its pixels: its row in the table, its target, its places in the order of training;
# measured, 1,300 with 10 classes. Every class adds the floats of soft label and target.
ROW, CLASS = 1200, 12
# Files of the decoded pixels at once, where they exceed what memory holds (`tckr.engine.mapped`): those of the set that
# is read, and those that the worker processes of an audit map.
FILES = 2


def check_memory(count: int, members: "pd.DataFrame", key: str) -> None:
    """Fail early if the synthetic images could not be trained on.

    Pixels that do not fit in memory are mapped from a file, and a GPU that cannot hold them reads them a batch at a
    time: they need room on the disk then. What is counted as free is what is free now, in this container if it has a
    limit.

    Args:
        count: synthetic images.
        members: table of the images whose size they have.
        key: the parameter that sets `count`.

    Raises:
        UserError: they take more memory or disk than there is.
    """
    from tckr.engine.mapped import fits_in_memory, scratch_place
    from tckr.engine.memory import free_memory
    from tckr.images.tensors import to_tensor

    shape = to_tensor(members["image"].head(1)).shape[1:]
    free = free_memory()
    classes = members["label"].nunique() if "label" in members else 0
    rows, pixels = count * (ROW + CLASS * classes), count * prod(shape)
    needed = [(rows, free, "memory")]
    if not fits_in_memory(pixels, free):
        folder = scratch_place()
        disk = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
        needed.append((FILES * pixels, shutil.disk_usage(disk).free, f"disk in {folder}"))
    for size, there, name in needed:
        if size > there:
            raise UserError(
                f"{count:,} synthetic images of {shape[1]} x {shape[2]} pixels take {size / GIB:,.1f} GiB to train on,"
                f" and there are {there / GIB:,.1f} GiB of {name}.",
                f"lower {key} or ingestion.size.",
            )
