"""Text to image: load a generator, adapt it to a private set, sample from it.

Names are imported when they are first used, so that `tckr.diffusion.options` can be read without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tckr.diffusion.adapter import Adapter
    from tckr.diffusion.lora import adapt
    from tckr.diffusion.options import AdaptationOptions, SamplingOptions
    from tckr.diffusion.pipeline import load
    from tckr.diffusion.sampling import balanced_prompts, sample, stream

__all__ = [
    "AdaptationOptions",
    "Adapter",
    "SamplingOptions",
    "adapt",
    "balanced_prompts",
    "load",
    "sample",
    "stream",
]

_MODULES = {
    "adapter": ("Adapter",),
    "lora": ("adapt",),
    "options": ("AdaptationOptions", "SamplingOptions"),
    "pipeline": ("load",),
    "sampling": ("balanced_prompts", "sample", "stream"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
