"""The command line's `--params`: `key=value,...`, where brackets and quotes hold a comma together."""

from typing import Any

from omegaconf import OmegaConf
from yaml import YAMLError

from tckr.configuration import expanded
from tckr.errors import UserError

WAY = (
    "put a text with a comma into quotes that the shell leaves alone, such as \"--params=images='/scans, 2024'\", a list"
    " into brackets ([a,b]), or both into conf/local/parameters.yml."
)


def parse(text: str) -> dict[str, Any]:
    """Return nested parameters, each value read as YAML, as Kedro reads them.

    Args:
        text: what follows `--params=`.

    Raises:
        UserError: an item is no `key=value`, or a bracket or quote is not closed.

    >>> parse("seed=1,classifier.epochs=2")
    {'seed': 1, 'classifier': {'epochs': 2}}
    >>> parse("ingestion.class_names=[a, b],images='/scans, 2024'")
    {'ingestion': {'class_names': ['a', 'b']}, 'images': '/scans, 2024'}
    """
    items = []
    for item in filter(str.strip, split(text)):
        key, equals, value = item.partition("=")
        if not equals or not key.strip():
            raise UserError(
                f"--params cannot read {item.strip()!r}: no key and value with = between them.", WAY
            )
        items.append(f"{key.strip()}={value}")
        try:
            OmegaConf.from_dotlist(items[-1:])
        except YAMLError:
            raise UserError(
                f"--params cannot read {item.strip()!r}: a bracket or quote is not closed, or misplaced.",
                WAY,
            ) from None
    return dict(expanded(OmegaConf.to_container(OmegaConf.from_dotlist(items))))


def split(text: str) -> list[str]:
    """Split at the commas outside the brackets and quotes that a value begins with.

    >>> split("a=[1,[2,3]],b='x,y',c=it's")
    ['a=[1,[2,3]]', "b='x,y'", "c=it's"]
    """
    items, depth, quote = [""], 0, ""
    for character in text:
        before = items[-1].rstrip()
        begins = before.endswith("=") if not depth else before[-1:] in "[{,:"
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"" and begins:
            quote = character
        elif character in "[{" and (depth or begins):
            depth += 1
        elif character in "]}" and depth:
            depth -= 1
        if character == "," and not quote and not depth:
            items.append("")
        else:
            items[-1] += character
    return items
