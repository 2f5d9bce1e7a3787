"""A classifier on disk: config.json + model.safetensors in one folder; for one of transformers, its own two."""

import json
import shutil
import tempfile
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tckr.classifiers.architectures import Network
from tckr.classifiers.resnet import ResNet
from tckr.errors import UserError

KIND = "tckr.classifiers.resnet.ResNet"
ABOUT = "classifier.json"  # stands beside the files of a network of transformers; see `hub`


def save(model: Network, folder: Path | str) -> None:
    """Write `model` to `folder`, which appears whole or not at all."""
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        scratch.chmod(0o755)
        _write(model, scratch)
        if folder.exists():
            shutil.rmtree(folder)
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write(model: Network, folder: Path) -> None:
    if not isinstance(model, ResNet):
        from tckr.classifiers import hub

        hub.save(model, folder)
        return
    config = {"class": KIND, **model.config}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors")


def load(folder: Path | str) -> Network:
    """Read a classifier written by `save`, in evaluation mode on the CPU.

    Raises:
        UserError: the folder or a file of it is missing, damaged or of another class.
    """
    folder = Path(folder)
    remedy = "give the folder of a classifier that tckr saved (config.json, model.safetensors)."
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise UserError(f"{folder / name} is missing.", remedy)
    if (folder / ABOUT).is_file():
        from tckr.classifiers import hub

        return hub.load(folder)
    try:
        config = json.loads((folder / "config.json").read_text())
        kind = config.pop("class", None) if isinstance(config, dict) else None
        if kind != KIND:
            raise UserError(f"{folder} holds {kind or 'an unknown class'}, not {KIND}.", remedy)
        model = ResNet(**config)
        model.load_state_dict(load_file(folder / "model.safetensors"))
    except (json.JSONDecodeError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{folder} is not a readable classifier: {reason}.", remedy) from error
    return model.eval()
