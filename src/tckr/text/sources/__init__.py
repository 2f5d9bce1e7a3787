"""Where prompts come from: small language models and large ones behind two verbs, random and vary."""

from tckr.text.sources.base import TextSource

__all__ = ["TextSource"]
