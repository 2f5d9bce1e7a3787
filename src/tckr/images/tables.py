"""Select from image tables, and turn them into the tensors that the domain packages compute on.

An image table is a DataFrame with one row per image; see `tckr.images.ingest` for its columns. Importing this module
does not import torch.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

# Keys of a table's `attrs`: the names of all classes, and the folder of unfinished work in which its images lie, of no use
# once the table is saved.
CLASSES, UNFINISHED, VIEWS = "class_names", "unfinished", "views"
# What a table's card says of how its images were made, a sentence each.
DESCRIBED = "described"
# Column of a recycled set in slices, 0, 1, ...: a student may see one after another.
SLICE = "slice"


def images_and_labels(table: pd.DataFrame) -> tuple["Tensor", "Tensor"]:
    """Return the images, uint8 (N, C, H, W), and labels, int64 (N,), of an image table.

    >>> import torch
    >>> from tckr.images.tensors import to_png
    >>> pngs = to_png(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
    >>> images, labels = images_and_labels(pd.DataFrame({"image": pngs, "label": [1, 0]}))
    >>> images.shape, labels
    (torch.Size([2, 1, 8, 8]), tensor([1, 0]))
    """
    import torch

    from tckr.images.tensors import to_tensor

    return to_tensor(table["image"]), torch.from_numpy(
        table["label"].to_numpy(dtype=np.int64, copy=True)
    )


def owners(table: pd.DataFrame) -> "NDArray[np.int64] | None":
    """Return whose each image is, int64 (N,): its `group`, such as a patient; None where the table does not say.

    >>> owners(pd.DataFrame({"group": [4, 9, 4]})), owners(pd.DataFrame({"label": [0, 1, 0]}))
    (array([4, 9, 4]), None)
    """
    if "group" not in table:
        return None
    return table["group"].to_numpy(dtype=np.int64, copy=True)


def of_split(table: pd.DataFrame, *splits: str) -> pd.DataFrame:
    """Return the rows of these splits, in the table's own order.

    >>> table = pd.DataFrame({"split": ["members", "test", "holdout"], "label": [0, 1, 2]})
    >>> of_split(table, "holdout", "members")["label"].tolist()
    [0, 2]
    """
    return table[table["split"].isin(splits)]


def class_names(table: pd.DataFrame) -> list[str]:
    """Return the names of the classes 0..C-1: those that the table was given, else those of its rows.

    >>> class_names(pd.DataFrame({"label": [1, 0, 1], "class_name": ["boot", "bag", "boot"]}))
    ['bag', 'boot']
    """
    given = table.attrs.get(CLASSES)
    if given is not None:
        return list(given)
    return table.drop_duplicates("label").sort_values("label")["class_name"].tolist()


def with_class_names(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return the table with the names of all its classes, also of those without a row; pandas hands them on.

    >>> rows = pd.DataFrame({"label": [1], "class_name": ["boot"]})
    >>> class_names(with_class_names(rows, ["bag", "boot"]).assign(split="train"))
    ['bag', 'boot']
    """
    named = table.copy(deep=False)
    named.attrs = {**table.attrs, CLASSES: [str(name) for name in names]}
    return named


def stored_labels(table: pd.DataFrame) -> "NDArray[np.float32] | None":
    """Return the class probabilities stored with the images, (M, C), or (M, K, C) of K fixed views; None without any.

    >>> stored_labels(pd.DataFrame({"soft_label": [[0.25, 0.75]]}))
    array([[0.25, 0.75]], dtype=float32)
    """
    if "soft_labels" in table:
        return np.array([np.stack(row) for row in table["soft_labels"]], dtype=np.float32)
    if "soft_label" in table:
        return np.stack(table["soft_label"].to_list()).astype(np.float32)
    return None
