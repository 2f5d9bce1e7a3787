"""The sources of text by kind. A further one is its file and a line here."""

from importlib import import_module
from typing import Any

from tckr.text.sources.base import TextSource
from tckr.text.sources.options import TextSourceOptions

SOURCES = {"masked": "tckr.text.sources.masked:MaskedSource"}


def text_source(options: TextSourceOptions, device: str = "cpu") -> TextSource:
    """Return the source of text that the options name, ready to write.

    Raises:
        UserError: its model cannot be loaded.
    """
    module, _, name = SOURCES[options.kind].partition(":")
    made: Any = getattr(import_module(module), name)
    source: TextSource = made(options, device)
    return source
