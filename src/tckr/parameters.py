"""The command line's `--params`: `key=value,...`, where brackets and quotes hold a comma together."""

import re
from typing import Any

import yaml
from omegaconf import OmegaConf

from tckr.configuration import expanded
from tckr.errors import UserError

# A bracket, a quote (with what it holds), a comma, or text between them.
PIECE = re.compile(r""""(?:[^"\\]|\\.)*"|'[^']*'|[\[\]{},]|[^\[\]{},"']+|.""")


def parse(text: str) -> dict[str, Any]:
    """Return nested parameters.

    A value in brackets or quotes is YAML; any other is read as Kedro reads it.

    Args:
        text: what follows `--params=`.

    Raises:
        UserError: an item is no `key=value`, or a bracket or quote is not closed.

    >>> parse("seed=1,classifier.epochs=2")
    {'seed': 1, 'classifier': {'epochs': 2}}
    >>> parse("ingestion.class_names=[a, b],images='/scans, 2024'")
    {'ingestion': {'class_names': ['a', 'b']}, 'images': '/scans, 2024'}
    """
    result: Any = OmegaConf.create()
    for item in split(text):
        key, equals, value = item.partition("=")
        if not equals or not key.strip():
            raise UserError(
                f"--params cannot read {item.strip()!r}: no key and value with = between them.",
                "put a value with a comma into quotes that the shell leaves alone, such as "
                "\"--params=images='/scans, 2024'\", a list into brackets ([a,b]), or both into conf/local/parameters.yml.",
            )
        if value[:1] in "[{\"'" and value:
            OmegaConf.update(result, key.strip(), _yaml(key, value))
        else:
            result = OmegaConf.merge(result, OmegaConf.from_dotlist([f"{key.strip()}={value}"]))
    return dict(expanded(OmegaConf.to_container(result)))


def split(text: str) -> list[str]:
    """Split at the commas that stand outside brackets and quotes.

    >>> split("a=[1,2],b='x,y',c=3")
    ['a=[1,2]', "b='x,y'", 'c=3']
    """
    items, depth = [""], 0
    for piece in PIECE.findall(text):
        depth += (piece in "[{") - (piece in "]}")
        if piece == "," and depth <= 0:
            items.append("")
        else:
            items[-1] += piece
    return [item for item in items if item.strip()]


def _yaml(key: str, value: str) -> Any:
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        raise UserError(
            f"--params cannot read the value {value!r} of {key.strip()}: a bracket or quote is not closed, or misplaced.",
            "write a list as [a,b] and a text with commas as 'a, b', or use conf/local/parameters.yml.",
        ) from None
