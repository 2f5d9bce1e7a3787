"""Build, save and load the classifier of a recipe: our small residual network, or an image classifier of transformers.

`tckr.classifiers.hub` imports transformers, which takes seconds: it is imported only where such a network is used.
"""

import json
import shutil
import tempfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tckr.classifiers import names
from tckr.classifiers.features import LinearOnFeatures, Scattering
from tckr.classifiers.options import OURS, SCATTERING, ClassifierOptions
from tckr.classifiers.resnet import ResNet, stem_stride
from tckr.errors import UserError

if TYPE_CHECKING:
    from tckr.classifiers.hub import HubClassifier

KIND = "tckr.classifiers.resnet.ResNet"
KINDS = (
    KIND,
    "tckr.classifiers.features.LinearOnFeatures",
    "tckr.classifiers.group_norm.GroupNormResNet",
)

# Both map float images (B, C, H, W) in [0, 1] to logits, and have a `config`, equal for networks of one architecture.
Network: TypeAlias = Union[ResNet, LinearOnFeatures, "HubClassifier"]


def build(
    options: ClassifierOptions, channels: int, n_classes: int, side: int | tuple[int, int]
) -> Network:
    """Return an untrained network (its body possibly pretrained) on the CPU, its weights drawn by torch's default generator.

    Args:
        channels: of the images, 1 grey or 3 colour.
        side: height and width of the images, or the length of both, pixels.

    Raises:
        UserError: the architecture is a folder or hub id without a fitting model.

    Example:
        >>> build(ClassifierOptions(), channels=1, n_classes=10, side=28).config["widths"]
        [16, 32, 96]
    """
    height, width = side if isinstance(side, tuple) else (side, side)
    if options.architecture == OURS:
        stride = options.stride or stem_stride(min(height, width))
        return ResNet(channels, n_classes, options.widths, stride, options.depth)
    if options.architecture == SCATTERING:
        return LinearOnFeatures(Scattering(channels, height, width), n_classes)
    from tckr.classifiers.hub import from_source

    return from_source(options.architecture, options.pretrained, channels, n_classes)


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
    if _name(type(model)) not in KINDS:
        from tckr.classifiers import hub

        hub.save(model, folder)  # type: ignore[arg-type]  # what is not ours is of transformers
        return
    config = {"class": _name(type(model)), **model.config, **names.in_config(model)}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors")


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


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
    if (folder / "classifier.json").is_file():
        from tckr.classifiers import hub

        return hub.load(folder)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = config.pop("class", None) if isinstance(config, dict) else None
        if kind not in KINDS:
            raise UserError(f"{folder} holds {kind or 'an unknown class'}, not {KIND}.", remedy)
        classes = names.from_config(config)
        module, _, name = kind.rpartition(".")
        model = getattr(import_module(module), name).from_config(**config)
        model.load_state_dict(load_file(folder / "model.safetensors"))
        if classes:
            names.named(model, classes)
    except UserError:
        raise
    except (ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{folder} is not a readable classifier: {reason}.", remedy) from error
    return model.eval()
