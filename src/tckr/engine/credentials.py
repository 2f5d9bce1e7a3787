"""Keys of endpoints, and passphrases of keys, by name: parameters hold the name alone, so that no key is logged, hashed or recorded with a run.

A key lies in the environment of the process, where worker processes find it too: as the user put it there, or as a run took it
from Kedro's `credentials.yml` (`hold`).

>>> hold({"my_server": {"api_key": "secret"}})
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

FIELDS = ("api_key", "passphrase")


def hold(credentials: Mapping[str, Any]) -> None:
    """Take `{name: {"api_key": ..., "passphrase": ...}}`, before those of the environment; other fields are not ours."""
    for name, entry in credentials.items():
        for field in FIELDS:
            if isinstance(entry, Mapping) and entry.get(field):
                os.environ[variable(name, field)] = str(entry[field])


def api_key(name: str) -> SecretStr | None:
    """Return the key called `name`: the variable `<NAME>_API_KEY`; None where there is none.

    Raises:
        UserError: the key holds a character that no header can carry.
    """
    key = os.environ.get(variable(name), "")
    if not (key.isascii() and key.isprintable()):
        raise UserError(
            f"The key of {name} holds characters other than printable ASCII.", where(name)
        )
    return SecretStr(key) if key else None


def passphrase(name: str) -> SecretStr | None:
    """Return the passphrase called `name`: the variable `<NAME>_PASSPHRASE`; None where there is none."""
    found = os.environ.get(variable(name, "passphrase"), "")
    return SecretStr(found) if found else None


def variable(name: str, field: str = "api_key") -> str:
    """Return the environment variable that holds a key, or a passphrase.

    >>> variable("text_source"), variable("release", "passphrase")
    ('TEXT_SOURCE_API_KEY', 'RELEASE_PASSPHRASE')
    """
    return f"{name.upper().replace('-', '_').replace('.', '_')}_{field.upper()}"


def where(name: str) -> str:
    """Say where a key belongs."""
    return (
        f"put `{name}: {{api_key: ...}}` into conf/local/credentials.yml, or the key into the environment variable"
        f" {variable(name)}."
    )
