"""Refuse the folder of a model that brings code along, whatever its libraries would do with it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tckr.errors import UserError

# "stable_diffusion" is how diffusers names the safety checker of its own Stable Diffusion 1 pipelines.
LIBRARIES = {"diffusers", "transformers", "stable_diffusion"}
PICKLES = ("*.bin", "*.ckpt", "*.pt", "*.pth", "*.pkl")


def check_no_code(folder: Path, index: Mapping[str, Any] | None = None) -> None:
    """Check that loading a model cannot run code from its folder.

    Args:
        folder: of the model.
        index: a pipeline's model_index.json, which says of each part its library and class.

    Raises:
        UserError: a Python file lies in it, or a part of it is of a library other than diffusers and transformers.

    >>> check_no_code(Path("data/06_models/foundation/generator"), {"unet": ["diffusers", "UNet2DConditionModel"]})
    """
    code = next(iter(sorted(folder.rglob("*.py"))), None)
    if code is not None:
        raise UserError(
            f"{code} is Python code in the folder of a model, and such code is never run.",
            "remove it if the model is one of diffusers or transformers; any other cannot be used.",
        )
    for part, value in (index or {}).items():
        library = value[0] if isinstance(value, list) and value else None
        if library is not None and library not in LIBRARIES:
            raise UserError(
                f"{folder} asks for {part} from {library}, which is neither diffusers nor transformers.",
                "give the folder of a pipeline that diffusers' save_pretrained has written.",
            )


def only_pickled(folder: Path) -> Path | None:
    """Return a file of pickled weights where a folder holds no others; None where there are safetensors, or nothing."""
    if next(folder.rglob("*.safetensors"), None) is not None:
        return None
    return next((file for pattern in PICKLES for file in sorted(folder.rglob(pattern))), None)
