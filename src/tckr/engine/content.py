"""Name a piece of work by everything that decides its result."""

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd


def content_hash(*values: Any) -> str:
    """Return 16 hex digits that change with the content of any value.

    Args:
        values: plain values, lists, mappings, tables, arrays, tensors, and dataclasses of those.

    Raises:
        TypeError: one is of another type, whose content nobody knows.

    >>> content_hash({"a": 1, "b": np.zeros(2)}) == content_hash({"b": np.zeros(2), "a": 1})
    True
    >>> content_hash([1, 2]) == content_hash([12])
    False
    """
    digest = hashlib.sha256()
    for value in values:
        _feed(digest, value)
    return digest.hexdigest()[:16]


def source_state(source: str) -> list[Any]:
    """Return what a model's folder or hub id stands for now: of a folder also its files, their sizes and times."""
    folder = Path(source)
    found = sorted(file for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else []
    states = [(file, file.stat()) for file in found]
    return [
        source,
        *([str(file), state.st_size, state.st_mtime_ns] for file, state in states),
    ]


def _feed(digest: Any, value: Any) -> None:
    """Add a value to a hash: its kind and size first, so that no two values give the same bytes."""
    if isinstance(value, Mapping):
        parts = sorted(value.items(), key=lambda item: str(item[0]))
        digest.update(f"mapping {len(parts)}\0".encode())
        _feed_all(digest, [part for pair in parts for part in pair])
    elif isinstance(value, list | tuple):
        digest.update(f"list {len(value)}\0".encode())
        _feed_all(digest, value)
    elif isinstance(value, pd.DataFrame):
        digest.update(f"table {len(value)}\0".encode())
        _feed_all(digest, [part for name in value for part in (name, value[name].tolist())])
    elif (torch := sys.modules.get("torch")) and isinstance(value, torch.Tensor):
        array = value.detach().cpu()
        digest.update(f"tensor {array.dtype} {tuple(array.shape)}\0".encode())
        digest.update(array.reshape(-1).view(torch.uint8).numpy().data)  # no copy of it
    elif isinstance(value, np.ndarray) and value.dtype != object:
        digest.update(f"array {value.dtype} {value.shape}\0".encode())
        digest.update(value.tobytes())
    elif is_dataclass(value) and not isinstance(value, type):
        digest.update(f"{type(value).__qualname__}\0".encode())
        _feed_all(digest, [getattr(value, part.name) for part in fields(value)])
    elif value is None or isinstance(value, str | bytes | bool | int | float | np.generic):
        plain = value.item() if isinstance(value, np.generic) else value
        text = repr(plain).encode()
        digest.update(f"value {len(text)}\0".encode())
        digest.update(text)
    else:
        raise TypeError(f"The content of a {type(value).__qualname__} cannot be compared.")


def _feed_all(digest: Any, values: Any) -> None:
    for value in values:
        _feed(digest, value)
