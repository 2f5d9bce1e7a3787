"""The weights that a model's folder holds, found as `from_pretrained` of diffusers and transformers looks for them."""

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from tckr.engine.loading import HUB_ID
from tckr.errors import UserError

# Stems of the files of weights: of networks of diffusers, and of transformers.
DIFFUSERS, TRANSFORMERS = "diffusion_pytorch_model", "model"
STEMS = {"unet": DIFFUSERS, "vae": DIFFUSERS}  # parts of a pipeline; all others are of transformers
# Of each kind of part, files of which it needs one.
TOKENIZER = ("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model", "spiece.model")
PROCESSOR = ("preprocessor_config.json", "processor_config.json")
# Parts of a pipeline: those that it cannot do without, those that are not needed to make images, those without weights.
NEEDED = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
BESIDE = ("safety_checker", "feature_extractor", "image_encoder")
DESCRIBED_BY = {"tokenizer": TOKENIZER, "scheduler": ("scheduler_config.json",)}
HERE = "."

Variant = str | None
"""The `fp16` of `model.fp16.safetensors`; None for plain weights."""


def find_variant(source: str | Path, parts: Collection[str] = (HERE,)) -> Variant:
    """Return the variant of the weights with which a model must be loaded; None for plain weights, or if none are complete.

    Args:
        source: folder, or a hub id that is in the local cache.
        parts: sub-folders with weights; "." for the folder itself.

    >>> find_variant("data/06_models/foundation/captioner") is None
    True
    """
    folder = local_folder(source)
    return None if folder is None else _common(_complete(folder, parts))


def check_weights(folder: Path, source: str, remedy: str, parts: Collection[str] = (HERE,)) -> None:
    """Check that every part has all of its weights, plain or of one variant, in files that can be opened.

    Raises:
        UserError: weights are missing or damaged; the message names the parts, or the file.
    """
    complete = _complete(folder, parts)
    missing = [part for part, found in complete.items() if not found]
    if missing:
        for part in missing:
            _check_shards(folder, source, remedy, part)
        where = _within(", ".join(missing))
        raise UserError(f"{source} has no weights (*.safetensors){where}.", remedy)
    variant = _common(complete)
    unlike = [part for part, found in complete.items() if not {variant, None} & set(found)]
    if unlike:
        have = "; ".join(
            f"{part} has {', '.join(map(str, found))}" for part, found in complete.items()
        )
        raise UserError(f"The parts of {source} have no variant in common: {have}.", remedy)
    for found in complete.values():
        for file in found.get(variant, found.get(None, ())):
            _check_opens(file, remedy)


def check_parts(folder: Path, source: str, remedy: str, index: Mapping[str, Any]) -> list[str]:
    """Check that the parts which a pipeline's model_index.json names are there, and describe themselves.

    Returns:
        Those with weights.

    Raises:
        UserError: a part is missing, or the file by which it is loaded.
    """
    named = [part for part, made_by in index.items() if isinstance(made_by, list)]
    made = [part for part in named if None not in index[part] and part not in BESIDE]
    weighty = []
    for part in dict.fromkeys([*NEEDED, *made]):
        kind = next((kind for kind in DESCRIBED_BY if part.startswith(kind)), None)
        check_one_of(folder, DESCRIBED_BY[kind] if kind else ("config.json",), source, remedy, part)
        if kind is None:
            weighty.append(part)
    return weighty


def check_one_of(
    folder: Path, names: Collection[str], source: str, remedy: str, part: str = HERE
) -> None:
    """Check that at least one of these files is in a part of a model's folder, and that those in JSON are readable.

    Raises:
        UserError: none is, or one is damaged.
    """
    found = [folder / part / name for name in names if (folder / part / name).is_file()]
    if not found:
        raise UserError(f"{source} has no {' or '.join(names)}{_within(part)}.", remedy)
    for file in found:
        if file.suffix == ".json":
            try:
                json.loads(file.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                raise UserError(f"{file} is not readable.", remedy) from None


def local_folder(source: str | Path, file: str = "config.json") -> Path | None:
    """Return where the files of a model lie: its folder, or its place in the hub's local cache; nothing is fetched.

    Args:
        source: folder or hub id.
        file: one that the model must have, by which it is found in the cache.
    """
    if Path(source).exists():
        return Path(source)
    if not HUB_ID.fullmatch(str(source)):
        return None
    from huggingface_hub import try_to_load_from_cache

    names = (file, "model_index.json")
    cached = [try_to_load_from_cache(str(source), name) for name in names]
    return next((Path(path).parent for path in cached if isinstance(path, str)), None)


def _complete(folder: Path, parts: Collection[str]) -> dict[str, dict[Variant, tuple[Path, ...]]]:
    """Return the complete sets of weights of each part, by variant."""
    return {part: _weights(folder / part, STEMS.get(part, TRANSFORMERS)) for part in parts}


def _weights(folder: Path, stem: str) -> dict[Variant, tuple[Path, ...]]:
    single = re.compile(rf"{stem}(?:\.(\w+))?\.safetensors")
    found: dict[Variant, tuple[Path, ...]] = {}
    for file in sorted(folder.iterdir()) if folder.is_dir() else []:
        if match := single.fullmatch(file.name):
            found[match[1]] = (file,)
    for variant, shards in _shards(folder, stem).items():
        if all(file.is_file() for file in shards):
            found.setdefault(variant, shards)
    return found


def _shards(folder: Path, stem: str) -> dict[Variant, tuple[Path, ...]]:
    """Return the files that the indices of sharded weights name, by variant, whether they are there or not."""
    index = re.compile(rf"{stem}\.safetensors\.index(?:\.(\w+))?\.json")
    found: dict[Variant, tuple[Path, ...]] = {}
    for file in sorted(folder.iterdir()) if folder.is_dir() else []:
        if match := index.fullmatch(file.name):
            try:
                named = json.loads(file.read_text(encoding="utf-8"))["weight_map"].values()
            except (OSError, ValueError, KeyError, AttributeError):
                continue
            found[match[1]] = tuple(folder / name for name in sorted(set(named)))
    return found


def _common(complete: Mapping[str, Mapping[Variant, Any]]) -> Variant:
    """Return None if every part has plain weights, else the variant that most of them share; plain ones go with any."""
    if all(None in found for found in complete.values()):
        return None
    names = sorted({name for found in complete.values() for name in found if name is not None})
    fits = [v for v in names if all(v in found or None in found for found in complete.values())]
    return next(iter(fits or names), None)


def _check_shards(folder: Path, source: str, remedy: str, part: str) -> None:
    """Name a shard that is missing, where an index says which there should be."""
    for shards in _shards(folder / part, STEMS.get(part, TRANSFORMERS)).values():
        absent = [file.name for file in shards if not file.is_file()]
        if absent:
            lacking = f"{len(absent)} of {len(shards)} files of weights{_within(part)}"
            raise UserError(f"{source} lacks {lacking}: {absent[0]} first.", remedy)


def _within(part: str) -> str:
    return "" if part == HERE else f" in {part}"


def _check_opens(file: Path, remedy: str) -> None:
    """See that a file has its whole length and a header; a pointer of git-lfs, for one, has neither."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "np"):
            pass
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file} holds no whole weights: {error}.", remedy) from None
