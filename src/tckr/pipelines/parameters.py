"""Parameters as flat text."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield `a.b.c` and its value for every leaf of nested dictionaries and typed options."""
    for key, value in values.items():
        inner = value.model_dump() if isinstance(value, BaseModel) else value
        if isinstance(inner, Mapping):
            yield from leaves(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", inner
