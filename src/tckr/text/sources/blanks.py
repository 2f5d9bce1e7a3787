"""What a language model is asked for a random prompt or a variation, and how its answer is read.

A variation is the fill-in-the-blanks of SPTI and Aug-PE: about half of the words of a prompt are blanked, two worked examples
stand before it as a conversation, and the number of words is part of the instruction. Everything said is public or derived
from the prompt, as `tckr.engine.released` has it.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from tckr.engine.released import Released, derived, public
from tckr.text.sources.options import ChatOptions

BLANK = "_"
Message = Mapping[str, Released]

_ASK = (
    'Fill in the blanks of a caption of a {domain} of the class "{name}". Each _ stands for a missing word or a few: replace all'
    " of them, so that something else is seen, and keep the other words where they make sense. Answer with one caption of exactly"
    " {words} words and nothing else.\nCaption: {blanked}"
)
_RANDOM = (
    'Write a very short description of a {domain} of the class "{name}", {traits}. Say what is seen: shape, colours, parts,'
    " surface, background. Answer with one description of exactly {words} words and nothing else."
)
# Two worked examples: blanked, then filled in.
_EXAMPLES = (
    (
        "chair",
        "a _ wooden chair with _ legs, _ slightly to the _, in front of a _ wall",
        "a narrow wooden chair with curved legs, turned slightly to the left, in front of a pale wall",
    ),
    (
        "bird",
        "_ bird with a _ beak and _ wings, sitting _ a branch, _ leaves _ it",
        "small grey bird with a short yellow beak and folded wings, sitting on a branch, blurred leaves behind it",
    ),
)
_THOUGHT = re.compile(r"<think>.*?(</think>|\Z)", re.DOTALL | re.IGNORECASE)
_WORD = r"[^\W_]+(?:['\u2019-][^\W_]+)*"
# "Caption:", "Here is the filled-in caption:" and the like.
_HEADER = re.compile(
    rf"^(?:{_WORD}[ \t]+){{0,5}}(?:caption|description|answer|output|result|sentence|variation|version|one|is|it):[ \t]+",
    re.IGNORECASE,
)
_BULLET = re.compile(r"^\s*(?:[-*•>#]+|\d+[.)])\s+")
_REFUSED = re.compile(
    r"\b(?:I'm sorry|I am sorry|I apologi[sz]e|I can(?:'|no)t|as an AI|as a language model|I(?:'m| am) unable)\b",
    re.IGNORECASE,
)


def random_messages(
    class_name: str, options: ChatOptions, draw: np.random.Generator
) -> list[Message]:
    """Return the request for one random prompt of a class: the domain, and two traits drawn from public lists.

    >>> random_messages("Bag", ChatOptions(), np.random.default_rng(0))[0]["role"]
    'user'
    """
    lists = list(options.traits.values())
    chosen = [lists[place] for place in draw.choice(len(lists), 2, replace=False)]
    traits = ", ".join(words[draw.integers(len(words))] for words in chosen)
    asked = _RANDOM.format(
        domain=options.domain, name=class_name, traits=traits, words=options.words
    )
    return [_said("user", public(asked))]


def variation_messages(
    prompt: Released, class_name: str, share: float, options: ChatOptions, draw: np.random.Generator
) -> list[Message]:
    """Return the request for one variation of a prompt `"<class>: <description>"`, after two worked examples.

    Args:
        prompt: released; begins with the name of its class.
        share: probability of a word to be blanked; one is at least.
    """
    description = prompt.removeprefix(f"{class_name}: ")
    # Aug-PE: as many words as now, and N(0, spread^2) more or fewer.
    wanted = round(len(description.split()) + draw.normal(0, options.words_spread))
    words = min(max(wanted, options.min_words), options.max_words)
    conversation: list[Message] = []
    for name, before, after in _EXAMPLES:
        ask = _ASK.format(
            domain=options.domain, name=name, words=len(after.split()), blanked=before
        )
        conversation += [_said("user", public(ask)), _said("assistant", public(after))]
    asked = _ASK.format(
        domain=options.domain,
        name=class_name,
        words=words,
        blanked=blanked(description, share, draw),
    )
    return [*conversation, _said("user", derived(asked, prompt))]


def blanked(text: str, share: float, draw: np.random.Generator) -> str:
    """Replace each word by a blank with probability `share`, one at least; punctuation stays.

    >>> blanked("small red bag, on sand", 0.5, np.random.default_rng(1))
    'small red _, on _'
    """
    words = list(re.finditer(_WORD, text))
    if not words:
        return BLANK
    out = draw.random(len(words)) < share
    out[draw.integers(len(words))] |= not out.any()
    for word, gone in reversed(list(zip(words, out, strict=True))):
        if gone:
            text = text[: word.start()] + BLANK + text[word.end() :]
    return text


def cleaned(answer: str, class_name: str, options: ChatOptions) -> str | None:
    """Return the description that an answer holds, without headings, quotes and last full stop; None where it holds none.

    >>> cleaned('Sure, here is one:\\n\\n**Caption:** "A small red bag, on sand."', "Bag", ChatOptions())
    'A small red bag, on sand'
    >>> cleaned("I'm sorry, I can't describe people.", "Bag", ChatOptions()) is None
    True
    >>> cleaned("a _ bag on sand", "Bag", ChatOptions()) is None
    True
    """
    for line in _THOUGHT.sub("", answer).splitlines():
        text = _BULLET.sub("", line).replace("*", "").replace("`", "").strip(" \t\"'“”„«»")
        if not text or text.endswith(":"):
            continue
        if _REFUSED.search(text):
            return None
        if text.casefold().startswith(f"{class_name}:".casefold()):
            text = text[len(class_name) + 1 :]
        text = _HEADER.sub("", text.strip())
        text = " ".join(text.strip(" \t\"'“”„«»").rstrip(".").split())
        words = text.split()
        readable = sum(any(letter.isalpha() for letter in word) for word in words)
        fits = (
            readable >= 2 and len(words) <= 2 * options.max_words and len(text) <= 16 * len(words)
        )
        return text if fits and BLANK not in text and text.isprintable() else None
    return None


def as_text(messages: Sequence[Message]) -> str:
    """Return a conversation as plain text for a model without a chat template; its answer is the next line.

    >>> as_text([_said("user", public("Write.\\nNow"))])
    'Request: Write. Now\\nAnswer:'
    """
    lines = []
    for message in messages:
        said = " ".join(message["content"].split())
        lines.append(f"Request: {said}\nAnswer:" if message["role"] == "user" else f" {said}\n\n")
    return "".join(lines)


def _said(role: str, content: Released) -> Message:
    return {"role": public(role), "content": content}
