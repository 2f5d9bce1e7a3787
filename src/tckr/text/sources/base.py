"""The two verbs of Private Evolution on text (SPTI, arXiv 2506.07555; Aug-PE, arXiv 2403.01749)."""

from collections.abc import Sequence
from typing import Protocol

from tckr.engine.released import claim, release


class TextSource(Protocol):
    """Writes prompts `"<class>: <description>"`. What it is given was public from the start, or released by a noisy vote."""

    def random(self, class_name: str, count: int, seed: int) -> list[str]:
        """Return `count` prompts of a class that no private image shaped (RANDOM_API)."""

    def vary(self, prompts: Sequence[str], class_names: Sequence[str], seed: int) -> list[str]:
        """Return one variation of each prompt (VARIATION_API).

        Args:
            prompts: N prompts.
            class_names: the class of each, which its variation keeps.
            seed: of the variation.
        """


class Gated:
    """Lets a source see only what was released (`tckr.engine.released`), and releases what it writes of that.

    A population that was read from a saved state is made known first: `release(prompts, "charged")`.

    >>> class Upper:
    ...     def random(self, class_name, count, seed):
    ...         return [f"{class_name}: a picture"] * count
    ...
    ...     def vary(self, prompts, class_names, seed):
    ...         return [f"{name}: another" for name in class_names]
    >>> source = Gated(Upper())
    >>> source.vary(source.random("Bag", 1, seed=0), ["Bag"], seed=0)
    ['Bag: another']
    >>> source.vary(["Bag: a caption of a private image"], ["Bag"], seed=0)
    Traceback (most recent call last):
    tckr.engine.released.UnreleasedTextError: A text was about to leave that was never released: 33 characters.
    """

    def __init__(self, source: TextSource) -> None:
        """Guard a source."""
        self._source = source

    def random(self, class_name: str, count: int, seed: int) -> list[str]:
        """Return `count` prompts of a class, public from the start."""
        return _plain(release(self._source.random(class_name, count, seed), "public"))

    def vary(self, prompts: Sequence[str], class_names: Sequence[str], seed: int) -> list[str]:
        """Return one variation of each prompt.

        Raises:
            UnreleasedTextError: a prompt was never released.
            ValueError: a prompt does not begin with the name of its class.
        """
        for prompt, name in zip(prompts, class_names, strict=True):
            if not prompt.startswith(f"{name}: "):
                raise ValueError("a prompt must begin with the name of its class and ': '")
        return _plain(release(self._source.vary(claim(prompts), class_names, seed), "derived"))


def _plain(texts: Sequence[str]) -> list[str]:
    """Return plain strings, which a checkpoint can hold."""
    return [str(text) for text in texts]
