"""Load transformers models from a folder or the local cache, with errors of one line that name the remedy.

Nothing is downloaded, no pickled weights are read and no code from a model's folder is run.
"""

import json
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from tckr.errors import UserError

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
# SAFE is for every from_pretrained of a model, OFFLINE for tokenizers and processors.
OFFLINE = {"local_files_only": True, "trust_remote_code": False}
SAFE = {"use_safetensors": True, **OFFLINE}


def description(source: str | Path, file: str = "config.json") -> dict[str, Any] | None:
    """Return the JSON `file` of a model's folder, or of a hub id in the local cache; None if it does not exist.

    Raises:
        ValueError: the file is no JSON object.

    >>> description("data/06_models/foundation/captioner")["model_type"]
    'blip-2'
    """
    path: Path | None = Path(source) / file
    if not Path(source).exists() and HUB_ID.fullmatch(str(source)):
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(str(source), file)
        path = Path(cached) if isinstance(cached, str) else None
    if path is None or not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no JSON object")
    return found


def check_kind(source: str | Path, key: str, accepted: Collection[str], remedy: str) -> None:
    """Check that `key` in the config.json of the model at `source` is one of `accepted`.

    A hub id that is not in the cache passes; loading it fails with its own message.

    Args:
        key: "model_type", or "architectures", of which at least one must be accepted.

    Raises:
        UserError: the model is of another kind, or its config.json is missing or unreadable.
    """
    try:
        described = description(source)
    except ValueError as error:
        raise UserError(f"{Path(source) / 'config.json'} is not readable.", remedy) from error
    if described is None and not Path(source).exists():
        return
    found = (described or {}).get(key) or []
    kinds: Sequence[str] = [found] if isinstance(found, str) else found
    if not set(kinds) & set(accepted):
        raise UserError(f"Folder {source} holds {', '.join(kinds) or 'no model'}.", remedy)


def download(source: str, parameter: str, meaning: str) -> str:
    """Return the remedy for a `source`, the value of `parameter`, that is not a model of the kind `meaning`."""
    folder = f"give {parameter} a folder of {meaning}"
    if Path(source).exists() or not HUB_ID.fullmatch(source):
        return f"{folder}."
    return (
        f"where there is a network, run `hf download {source} --local-dir {source.split('/')[1]}` and give"
        f" {parameter} that folder (without --local-dir it goes to the hub's local cache, where {source} is found"
        f" by its name); or {folder}."
    )


@contextmanager
def readable(what: str, remedy: str) -> Iterator[None]:
    """Turn whatever transformers raises for a missing, damaged or unsuitable `what` into one `UserError`."""
    try:
        yield
    except UserError:
        raise
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        RuntimeError,
        ImportError,
        SafetensorError,
    ) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(f"{what} could not be loaded: {reason}", remedy) from error
