"""The gate through which every text leaves the process: nothing that was not released before.

A text is released if it is public from the start (a literal, a parameter, the name of a class, a prompt that no private
image shaped), if it came out of a mechanism that the ledger charged, or if it was made of released texts alone
(post-processing). `Remote` sends `Released` strings and nothing else; `claim` turns plain strings into such only where the same
text was released before. A caption of a private image never was, so that it cannot be sent by mistake.

>>> [first] = release(["Bag: a small red bag"], "public")
>>> claim(["Bag: a small red bag"]) == [first]
True
>>> claim(["Bag: what a private image shows"])
Traceback (most recent call last):
tckr.engine.released.UnreleasedTextError: A text was about to leave that was never released: 31 characters.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

Why = Literal["public", "charged", "derived"]
"""No private image shaped it; a mechanism in the ledger did, with its noise; or it was made of released texts alone."""

_released: set[bytes] = set()


class UnreleasedTextError(ValueError):
    """A text that may not leave was about to; its words are not in the message."""


class Released(str):
    """A text that may leave the process; made by `public`, `release`, `claim` and `derived`, never by hand."""

    __slots__ = ()


def public(text: str) -> Released:
    """Return a text that no private image shaped: a literal of the code, a parameter, the name of a class."""
    return Released(text)


def release(texts: Iterable[str], why: Why) -> list[Released]:
    """Remember that these texts may leave from now on.

    Args:
        texts: such as prompts.
        why: "charged" for what a noisy mechanism selected or wrote, such as a population read from a saved state.
    """
    found = [Released(text) for text in texts]
    _released.update(map(_digest, found))
    return found


def claim(texts: Iterable[str]) -> list[Released]:
    """Return texts as such that may leave.

    Raises:
        UnreleasedTextError: one was never released.
    """
    given = list(texts)
    for text in given:
        if _digest(text) not in _released:
            raise UnreleasedTextError(
                f"A text was about to leave that was never released: {len(text)} characters."
            )
    return [Released(text) for text in given]


def derived(text: str, *origins: Released) -> Released:
    """Return a text that was made of released texts and of nothing else.

    >>> derived("a small _ bag", *claim(release(["a small red bag"], "public")))
    'a small _ bag'

    Raises:
        UnreleasedTextError: an origin is a plain text.
    """
    for origin in origins:
        _check(origin)
    return Released(text)


def check_released(body: Any) -> None:
    """Check that every text in nested lists and mappings is `Released`.

    Raises:
        UnreleasedTextError: one is a plain text.
    """
    for text in _texts(body):
        _check(text)


def _check(text: str) -> None:
    if not isinstance(text, Released):
        raise UnreleasedTextError(
            f"A text was about to leave that was never released: {len(text)} characters."
        )


def _texts(body: Any) -> Iterator[str]:
    if isinstance(body, str):
        yield body
    elif isinstance(body, Mapping):
        for value in body.values():
            yield from _texts(value)
    elif isinstance(body, list | tuple):
        for value in body:
            yield from _texts(value)
    elif body is not None and not isinstance(body, bool | int | float):
        raise TypeError(f"A {type(body).__name__} cannot be sent.")


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
