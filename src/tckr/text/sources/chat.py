"""Prompts by a language model that follows instructions, wherever it runs: asked, read, asked again, counted."""

import logging
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from tckr.engine.released import claim
from tckr.engine.seeds import derive
from tckr.errors import UserError
from tckr.text.sources.blanks import Message, cleaned, random_messages, variation_messages
from tckr.text.sources.options import TextSourceOptions

logger = logging.getLogger(__name__)


class Question(NamedTuple):
    """What a model is asked, of which class, and the seed of its answer."""

    messages: Sequence[Message]
    class_name: str
    seed: int


class ChatSource:
    """A source whose model answers conversations.

    An answer that cannot be used is asked for again with another seed; where no try helps, a variation is the prompt itself.

    Attributes:
        asked: prompts wanted so far.
        unusable: of these, how many got no usable answer.
    """

    def __init__(self, options: TextSourceOptions) -> None:
        """Start with nothing asked."""
        self._options = options
        self.asked = self.unusable = 0

    @abstractmethod
    def answer(self, questions: Sequence[Question]) -> Sequence[str]:
        """Return the answer to each question, in order; empty where there is none."""

    def random(self, class_name: str, count: int, seed: int) -> list[str]:
        """Return `count` prompts of a class that no private image shaped (RANDOM_API).

        Raises:
            UserError: too many answers cannot be used.
        """
        seeds = [derive(seed, "random", class_name, number) for number in range(count)]
        texts = self._written(
            [class_name] * count,
            seeds,
            lambda row, seed: random_messages(
                class_name, self._options.chat, np.random.default_rng(seed)
            ),
        )
        usable = [text for text in texts if text is not None]
        if count and not usable:
            raise self._useless(class_name)
        spare = np.random.default_rng(derive(seed, "spare", class_name))
        return [
            f"{class_name}: {usable[spare.integers(len(usable))] if text is None else text}"
            for text in texts
        ]

    def vary(self, prompts: Sequence[str], class_names: Sequence[str], seed: int) -> list[str]:
        """Return one variation of each prompt, by filling in blanks (VARIATION_API); repeated prompts get different ones.

        Raises:
            UserError: too many answers cannot be used.
            UnreleasedTextError: a prompt was never released.
        """
        released = claim(prompts)
        before: Counter[str] = Counter()
        seeds = []
        for prompt in released:
            # By content and not by place: whatever else the population holds, the same is asked.
            seeds.append(derive(seed, "vary", prompt, before[prompt]))
            before[prompt] += 1
        texts = self._written(
            class_names,
            seeds,
            lambda row, seed: variation_messages(
                released[row],
                class_names[row],
                self._options.share,
                self._options.chat,
                np.random.default_rng(seed),
            ),
        )
        return [
            str(prompt) if text is None else f"{name}: {text}"
            for prompt, name, text in zip(released, class_names, texts, strict=True)
        ]

    def _written(
        self,
        class_names: Sequence[str],
        seeds: Sequence[int],
        ask: Callable[[int, int], Sequence[Message]],
    ) -> list[str | None]:
        """Return what was written for each seed; None where no try gave anything usable."""
        texts: list[str | None] = [None] * len(seeds)
        for attempt in range(self._options.chat.tries):
            rows = [row for row, text in enumerate(texts) if text is None]
            if not rows:
                break
            tried = [seeds[row] if attempt == 0 else derive(seeds[row], attempt) for row in rows]
            questions = [
                Question(ask(row, seed), class_names[row], seed)
                for row, seed in zip(rows, tried, strict=True)
            ]
            for row, answer in zip(rows, self.answer(questions), strict=True):
                texts[row] = cleaned(answer, class_names[row], self._options.chat)
        self._count(texts, class_names)
        return texts

    def _count(self, texts: Sequence[str | None], class_names: Sequence[str]) -> None:
        unusable = sum(text is None for text in texts)
        self.asked += len(texts)
        self.unusable += unusable
        if not unusable:
            return
        if unusable > self._options.chat.tolerance * len(texts):
            raise self._useless(class_names[0], unusable, len(texts))
        logger.warning(
            "%s of %s prompts got no usable answer in %s tries and stay as they were.",
            f"{unusable:,}",
            f"{len(texts):,}",
            self._options.chat.tries,
        )

    def _useless(self, class_name: str, unusable: int = 1, asked: int = 1) -> UserError:
        options = self._options
        model = options.endpoint.model if options.kind == "openai" else options.model
        return UserError(
            f"{model} gave no usable answer for {unusable:,} of {asked:,} prompts, first of class '{class_name}', in"
            f" {options.chat.tries} tries each: empty, a refusal, blanks left, or no sentence.",
            "take a model that follows instructions, lower temperature, or raise chat.max_tokens, tries or tolerance.",
        )
