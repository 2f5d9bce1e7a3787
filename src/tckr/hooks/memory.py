"""Check that a machine can hold what a run is about to draw."""

from math import prod
from typing import TYPE_CHECKING

from tckr.engine.device import best
from tckr.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

GIB = 1 << 30


def check_memory(count: int, members: "pd.DataFrame", key: str) -> None:
    """Fail early if the synthetic images would not fit in memory for training.

    Whoever trains decodes them all, on the host and on the device.

    Args:
        count: synthetic images.
        members: table of the images whose size they have.
        key: the parameter that sets `count`.

    Raises:
        UserError: they take more memory than there is.
    """
    import psutil
    import torch

    from tckr.images.tensors import to_tensor

    shape = to_tensor(members["image"].head(1)).shape[1:]
    needed = count * prod(shape)
    there = {"memory": psutil.virtual_memory().available}
    if best() == "cuda":
        there["GPU memory"] = torch.cuda.mem_get_info()[1]
    for name, size in there.items():
        if needed > size:
            raise UserError(
                f"{count:,} synthetic images of {shape[1]} x {shape[2]} pixels take {needed / GIB:,.1f} GiB to train on,"
                f" and there are {size / GIB:,.1f} GiB of {name}.",
                f"lower {key} or ingestion.size.",
            )
