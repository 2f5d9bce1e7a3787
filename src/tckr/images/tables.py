"""Image tables as the tensors that the domain packages compute on."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from torch import Tensor


def images_and_labels(table: pd.DataFrame) -> tuple["Tensor", "Tensor"]:
    """Return the images, uint8 (N, C, H, W), and labels, int64 (N,), of an image table."""
    import torch

    from tckr.images.tensors import to_tensor

    return to_tensor(table["image"]), torch.from_numpy(
        table["label"].to_numpy(dtype=np.int64, copy=True)
    )


def of_split(table: pd.DataFrame, *splits: str) -> pd.DataFrame:
    """Return the rows of these splits, in the table's own order."""
    return table[table["split"].isin(splits)]


def class_names(table: pd.DataFrame) -> list[str]:
    """Return the names of the classes 0, 1, ..."""
    return table.drop_duplicates("label").sort_values("label")["class_name"].tolist()
