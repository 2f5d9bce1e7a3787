"""Keys of endpoints, by name: parameters hold the name alone, so that no key is logged, hashed or recorded with a run.

A run puts what Kedro's `credentials.yml` says here (`hold`); without Kedro the environment says it.

>>> import os
>>> os.environ["MY_SERVER_API_KEY"] = "secret"
>>> api_key("my_server")
SecretStr('**********')
>>> del os.environ["MY_SERVER_API_KEY"]
>>> api_key("my_server") is None
True
"""

import os
from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr

from tckr.errors import UserError

_held: dict[str, SecretStr | None] = {}


def hold(credentials: Mapping[str, Any]) -> None:
    """Remember the keys of `{name: {"api_key": ...}}`, in place of those known before; entries of another form are not ours."""
    _held.clear()
    for name, entry in credentials.items():
        if isinstance(entry, Mapping) and "api_key" in entry:
            key = entry["api_key"]
            _held[name] = None if key is None else SecretStr(str(key))


def api_key(name: str) -> SecretStr | None:
    """Return the key called `name`: of the credentials, else of the variable `<NAME>_API_KEY`; None where there is neither.

    Raises:
        UserError: the key holds a character that no header can carry.
    """
    found = _held.get(name)
    if found is None:
        value = os.environ.get(variable(name), "")
        found = SecretStr(value) if value else None
    if found is not None and not (
        found.get_secret_value().isascii() and found.get_secret_value().isprintable()
    ):
        raise UserError(
            f"The key of {name} holds characters that are not printable ASCII.", where(name)
        )
    return found


def variable(name: str) -> str:
    """Return the environment variable that holds a key.

    >>> variable("text_source")
    'TEXT_SOURCE_API_KEY'
    """
    return f"{name.upper().replace('-', '_').replace('.', '_')}_API_KEY"


def where(name: str) -> str:
    """Say where a key belongs."""
    return (
        f"put `{name}: {{api_key: ...}}` into conf/local/credentials.yml, or the key into the environment variable"
        f" {variable(name)}."
    )
