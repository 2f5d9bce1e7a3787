"""Look at the folder of a foundation model before a run, without loading it."""

import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NamedTuple

from tckr.errors import UserError
from tckr.loading import HUB_ID, download


class Kind(NamedTuple):
    """What a model's folder must say of itself."""

    file: str
    key: str
    value: str
    meaning: str
    others: Callable[[], Collection[str]] = tuple  # values that will do as well


def _captioners() -> Collection[str]:
    from tckr.text.captioner import kinds

    return kinds()


KINDS = {
    "captioning.captioner": Kind(
        "config.json",
        "model_type",
        "blip-2",
        "a transformers image-text-to-text model, such as BLIP-2",
        _captioners,
    ),
    "generator_adaptation.generator": Kind(
        "model_index.json",
        "_class_name",
        "StableDiffusionPipeline",
        "a diffusers StableDiffusionPipeline or StableDiffusionXLPipeline",
        lambda: ("StableDiffusionXLPipeline",),
    ),
    "privacy_audit.release.encoder": Kind(
        "config.json", "model_type", "clip", "a transformers CLIPModel"
    ),
}


def check_model(parameter: str, source: str) -> None:
    """Check that `source`, the value of `parameter`, is a model of the right kind.

    Args:
        parameter: a key of `KINDS`.
        source: a folder, or a hub id that is already in the local cache.

    Raises:
        UserError: nothing is there, or something else.
    """
    kind = KINDS[parameter]
    remedy = download(source, parameter, kind.meaning)
    description = Path(source) / kind.file
    if not Path(source).exists():
        cached = _cached(source, kind.file)
        if cached is None:
            raise UserError(
                f"{parameter} = {source} is neither a folder nor a model in the local cache.",
                remedy,
            )
        description = cached
    if not description.is_file():
        raise UserError(f"{source} has no {kind.file}.", remedy)
    try:
        found: Any = json.loads(description.read_text(encoding="utf-8")).get(kind.key)
    except (ValueError, AttributeError):
        raise UserError(f"{description} is not readable.", remedy) from None
    if found != kind.value and found not in kind.others():
        raise UserError(
            f"{source} holds {found or 'an unknown model'}, not {kind.meaning}.", remedy
        )


def _cached(source: str, file: str) -> Path | None:
    """Find a hub model's file in the local cache; nothing is fetched."""
    if not HUB_ID.fullmatch(source):
        return None
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(source, file)
    return Path(path) if isinstance(path, str) else None
