"""Prompts by a model behind an OpenAI-compatible endpoint: /chat/completions, one request a prompt."""

from collections.abc import Iterator, Sequence
from typing import Any

from tckr.engine.remote import Ask, BadAnswerError, Remote
from tckr.text.sources.chat import ChatSource, Question
from tckr.text.sources.options import TextSourceOptions


class RemoteSource(ChatSource):
    """A chat model behind an endpoint; its answers are kept, so that none is asked or paid for twice."""

    def __init__(self, options: TextSourceOptions, device: str = "cpu") -> None:
        """Prepare to ask; `device` is that of the endpoint.

        Raises:
            UserError: the extra is not installed.
        """
        super().__init__(options)
        self.remote: Remote[str] = Remote(
            "/chat/completions", options.endpoint, options.traffic, read_text, "text.endpoint"
        )

    def answer(self, questions: Sequence[Question]) -> Sequence[str]:
        """Return the answer to each question; empty where the endpoint declined it.

        Raises:
            UserError: a cap is reached, or the endpoint cannot be used.
        """
        answers = self.remote.each(self._asks(questions), "prompts", len(questions))
        return [answer or "" for answer in answers]

    def _asks(self, questions: Sequence[Question]) -> Iterator[Ask]:
        tokens = self._options.chat.max_tokens
        for question in questions:
            body: dict[str, Any] = {
                "messages": question.messages,
                "temperature": self._options.temperature,
                "max_tokens": tokens,
            }
            if self._options.endpoint.seeded is not False:
                body["seed"] = question.seed
            yield Ask(body, number=question.seed, tokens=tokens)


def read_text(found: Any) -> str:
    """Return the text of a chat completion, which may be empty.

    >>> read_text({"choices": [{"message": {"content": "a bag"}}]})
    'a bag'

    Raises:
        BadAnswerError: it is no chat completion.
    """
    try:
        content = found["choices"][0]["message"]["content"]
    except (LookupError, TypeError):
        raise BadAnswerError("no choices") from None
    if content is not None and not isinstance(content, str):
        raise BadAnswerError("no text")
    return content or ""
