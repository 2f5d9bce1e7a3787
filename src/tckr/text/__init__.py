"""Text about images: caption them, embed them with CLIP, vary sentences."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tckr.text.captioner import Captioner, caption, captions_table
    from tckr.text.clip import image_embeddings, load_clip, text_embeddings
    from tckr.text.masked import vary

__all__ = [
    "Captioner",
    "caption",
    "captions_table",
    "image_embeddings",
    "load_clip",
    "text_embeddings",
    "vary",
]

_MODULES = {
    "Captioner": "captioner",
    "caption": "captioner",
    "captions_table": "captioner",
    "image_embeddings": "clip",
    "load_clip": "clip",
    "text_embeddings": "clip",
    "vary": "masked",
}


def __getattr__(name: str) -> Any:
    # Lazily: Kedro imports `tckr.text.options` at start-up, which must not import torch.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
