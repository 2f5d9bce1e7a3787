"""The sources of text by kind. A further one is its file and a line here."""

from importlib import import_module
from typing import Any

from tckr.text.sources.base import Gated, TextSource
from tckr.text.sources.options import TextSourceOptions

SOURCES = {
    "masked": "tckr.text.sources.masked:MaskedSource",
    "causal": "tckr.text.sources.causal:CausalSource",
    "openai": "tckr.text.sources.remote:RemoteSource",
}


def text_source(options: TextSourceOptions, device: str = "cpu") -> TextSource:
    """Return the source of text that the options name, ready to write; it sees only texts that were released.

    Raises:
        UserError: its model cannot be loaded, or its endpoint cannot be asked.
    """
    module, _, name = SOURCES[options.kind].partition(":")
    made: Any = getattr(import_module(module), name)
    return Gated(made(options, device))
