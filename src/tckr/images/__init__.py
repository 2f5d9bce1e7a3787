"""From raw images to the private set, and between images, tables and tensors."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tckr.images.readers import read
    from tckr.images.sheets import sheet
    from tckr.images.tables import class_names, images_and_labels, of_split
    from tckr.images.tensors import to_png, to_tensor

__all__ = ["class_names", "images_and_labels", "of_split", "read", "sheet", "to_png", "to_tensor"]

_MODULES = {
    "class_names": "tables",
    "images_and_labels": "tables",
    "of_split": "tables",
    "read": "readers",
    "sheet": "sheets",
    "to_png": "tensors",
    "to_tensor": "tensors",
}


def __getattr__(name: str) -> Any:
    # Lazily: Kedro imports `tckr.images.options` at start-up, which must not import torch.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
