"""The two verbs of Private Evolution on text (SPTI, arXiv 2506.07555; Aug-PE, arXiv 2403.01749)."""

from collections.abc import Sequence
from typing import Protocol


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
