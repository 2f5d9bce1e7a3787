"""Who was in which training set, and scores of those very images, as the catalog keeps them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tckr.engine.seeds import derive
from tckr.images.tables import of_split
from tckr.pipelines.types import Tensors

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPLITS = ("members", "holdout")
EXAMPLES = "examples"  # which images a table of scores is of


def audited_images(images: pd.DataFrame) -> pd.DataFrame:
    """Members and holdout, in the table's own order."""
    return of_split(images, *SPLITS)


def is_member(audited: pd.DataFrame) -> "NDArray[np.bool_]":
    """True for members, (N,)."""
    return (audited["split"] == "members").to_numpy()


def draw_memberships(images: pd.DataFrame, audit_plan: dict[str, Any], seed: int) -> pd.DataFrame:
    """Decide which audited image is in which shadow's training set.

    Returns:
        One row a member or holdout image: image_id, is_member, and a boolean column a shadow.
    """
    from tckr.audit.membership import membership_matrix

    audited = audited_images(images)
    n_shadows = audit_plan["n_shadows"]
    drawn = membership_matrix(len(audited), n_shadows, 0.5, derive(seed, "membership"))
    shadows = {f"shadow_{i}": row for i, row in enumerate(drawn)}
    return pd.DataFrame(
        {"image_id": audited["image_id"].to_numpy(), "is_member": is_member(audited), **shadows}
    )


def memberships(table: pd.DataFrame, audited: pd.DataFrame) -> "NDArray[np.bool_]":
    """Take the matrix bool (S, N) out of its table, for these images in their order.

    Raises:
        UserError: the table was made for other images.
    """
    if set(table["image_id"]) != set(audited["image_id"]):
        raise _of_another_set()
    rows = table.set_index("image_id").loc[audited["image_id"]]
    columns = [column for column in rows if column.startswith("shadow_")]
    # A copy: pandas hands out read-only views.
    return np.array(rows[columns].to_numpy(dtype=bool).T, order="C")


def as_tensors(arrays: "Mapping[str, NDArray[Any]]", audited: pd.DataFrame) -> Tensors:
    """Arrays as the catalog keeps them, with a mark of the images they are of."""
    import torch

    tensors = {
        name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()
    }
    return tensors | {EXAMPLES: torch.from_numpy(_mark(audited))}


def as_arrays(tensors: Tensors, audited: pd.DataFrame) -> "dict[str, NDArray[Any]]":
    """Arrays by name, once it is sure that they are of these images.

    Raises:
        UserError: they are of others.
    """
    if not np.array_equal(tensors[EXAMPLES].numpy(), _mark(audited)):
        raise _of_another_set()
    return {name: tensor.numpy() for name, tensor in tensors.items() if name != EXAMPLES}


def _mark(audited: pd.DataFrame) -> "NDArray[np.uint8]":
    import hashlib

    text = "\n".join(audited["split"] + " " + audited["image_id"])
    return np.frombuffer(hashlib.sha256(text.encode()).digest(), dtype=np.uint8).copy()


def _of_another_set() -> Exception:
    from tckr.errors import UserError

    return UserError(
        "The scores and memberships in the catalog belong to another private set.",
        "run the whole stage again: kedro run --namespaces=<stage>.",
    )
