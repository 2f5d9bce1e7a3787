"""Prompts by a masked language model: random ones from the shipped captioner's grammar, variations by filling in blanks."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tckr.text.masked import load, vary
from tckr.text.sources.options import TextSourceOptions
from tckr.text.vocabulary import SHIPPED

MARK = ": "  # between class and description


class MaskedSource:
    """A small masked language model on this machine.

    >>> source = MaskedSource(TextSourceOptions(model="data/06_models/foundation/masked"))
    >>> source.random("Bag", 1, seed=0)[0].startswith("Bag: ")
    True
    """

    def __init__(self, options: TextSourceOptions, device: str = "cpu") -> None:
        """Load the model.

        Raises:
            UserError: the folder is not one of a masked language model.
        """
        self._options, self._device = options, device
        self._masked: Any = load(str(options.model), device)

    def random(self, class_name: str, count: int, seed: int) -> list[str]:
        """Return sentences of the grammar, every word equally likely: public, whatever the private images are."""
        draw = np.random.default_rng(seed)
        captions = SHIPPED.write(np.ones(SHIPPED.size), count, draw)
        return [f"{class_name}{MARK}{caption}" for caption in captions]

    def vary(self, prompts: Sequence[str], class_names: Sequence[str], seed: int) -> list[str]:
        """Fill in a share of the words of each prompt anew; the class in front stays.

        The model reads the class too, as the sentences did that it learnt from.
        """
        model, tokenizer = self._masked
        options = self._options
        shown = []
        for prompt, name in zip(prompts, class_names, strict=True):
            front = name.replace(
                MARK, " "
            )  # the model's own mark: what stands before the first one stays
            shown.append(f"{front}{MARK}{prompt.removeprefix(f'{name}{MARK}')}")
        varied = vary(model, tokenizer, shown, options.share, options.temperature, seed)
        return [
            f"{name}{MARK}{text.partition(MARK)[2]}"
            for name, text in zip(class_names, varied, strict=True)
        ]
