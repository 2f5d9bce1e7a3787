"""Image classifiers of transformers (AutoModelForImageClassification) behind the interface of our small network."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForImageClassification
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from tckr.classifiers import names
from tckr.engine.loading import OFFLINE, SAFE, check_kind, description, download, readable
from tckr.engine.weights import find_variant
from tckr.errors import UserError

KIND = "tckr.classifiers.hub.HubClassifier"
ABOUT = "classifier.json"  # beside the files of a network of transformers
SIDE = 224  # where neither the image processor nor the model names one
# Keys that may differ between two configurations of the same network.
INCIDENTAL = (
    "_name_or_path",
    "id2label",
    "label2id",
    "transformers_version",
    "dtype",
    "torch_dtype",
    "architectures",
)


class HubClassifier(nn.Module):
    """A network of transformers that takes images of any size, as `ResNet` does.

    Inside it images are resized to the network's own side (bicubic, smoothed when they shrink, squeezed into a square),
    grey is repeated for three channels, and pixels are normalised.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: Any,
        channels: int,
        side: int,
        mean: list[float],
        std: list[float],
    ) -> None:
        """Take a model of AutoModelForImageClassification.

        Args:
            channels: of the images, 1 grey or 3 colour.
            side: of the square images that the network reads, pixels.
            mean: of each channel it reads, of pixels in [0, 1].
            std: likewise.
        """
        super().__init__()
        self.network = network
        self.channels, self.side = channels, side
        self.n_classes = int(network.config.num_labels)
        for name, values in {"mean": mean, "std": std}.items():
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1), persistent=False)

    @property
    def about(self) -> dict[str, Any]:
        """Return what the configuration of transformers does not hold."""
        return {
            "channels": self.channels,
            "side": self.side,
            "mean": self.mean.flatten().tolist(),
            "std": self.std.flatten().tolist(),
        }

    @property
    def config(self) -> dict[str, object]:
        """Return a description that is equal for networks of one architecture, whatever their weights."""
        settings = self.network.config.to_dict()
        return {
            **self.about,
            "n_classes": self.n_classes,
            "network": {k: v for k, v in settings.items() if k not in INCIDENTAL},
        }

    def forward(self, x: Tensor) -> Tensor:
        """Map float images (B, C, H, W) in [0, 1] to logits (B, n_classes)."""
        if x.shape[-2:] != (self.side, self.side):
            size = (self.side, self.side)
            x = F.interpolate(x, size, mode="bicubic", antialias=True).clamp(0, 1)
        x = (x.expand(-1, self.mean.shape[1], -1, -1) - self.mean) / self.std
        return self.network(pixel_values=x).logits


def from_source(source: str, pretrained: bool, channels: int, n_classes: int) -> HubClassifier:
    """Return a classifier of `n_classes` on the CPU, with a new head and a body that is pretrained or new.

    New weights are drawn by torch's default generator.

    Args:
        source: a folder, or a hub id that is in the local cache, of a transformers image classifier (or its body).
        pretrained: whether to keep the weights of the body; else only the configuration is read.
        channels: of the images, 1 grey or 3 colour.

    Raises:
        UserError: nothing is found there, it is another kind of model, or weights of the body are missing.
    """
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES as KNOWN,
    )

    remedy = download(source, "classifier.architecture", "a transformers image classifier")
    check_kind(source, "model_type", KNOWN, remedy)
    with readable(f"Classifier '{source}'", remedy):
        config = AutoConfig.from_pretrained(source, num_labels=n_classes, **OFFLINE)
        if pretrained:
            network, report = AutoModelForImageClassification.from_pretrained(
                source, config=config, dtype=torch.float32, ignore_mismatched_sizes=True,
                output_loading_info=True, variant=find_variant(source), **SAFE,
            )  # fmt: skip
            body = f"{network.base_model_prefix}."
            missing = sorted(name for name in report["missing_keys"] if name.startswith(body))
            if missing:
                raise UserError(
                    f"{source} lacks {len(missing)} weights, {missing[0]} first.", remedy
                )
        else:
            network = AutoModelForImageClassification.from_config(config, dtype=torch.float32)
        return HubClassifier(network, channels, **_reading(source, config))


def save(model: HubClassifier, folder: Path) -> None:
    """Write `model` into `folder`: the files that transformers reads, and how to prepare images."""
    if given := names.class_names(model):
        model.network.config.id2label = dict(enumerate(given))
        model.network.config.label2id = {name: number for number, name in enumerate(given)}
    model.network.save_pretrained(folder)
    about = {"class": KIND, **model.about, "named": bool(given)}
    (folder / ABOUT).write_text(json.dumps(about, indent=2) + "\n")


def load(folder: Path) -> HubClassifier:
    """Read what `save` wrote, on the CPU.

    Raises:
        UserError: a file is missing, damaged or of another class.
    """
    remedy = "give the folder of a classifier that tckr saved."
    with readable(f"Classifier {folder}", remedy):
        about = json.loads((folder / ABOUT).read_text())
        if about.pop("class", None) != KIND:
            raise ValueError(f"{ABOUT} names another class than {KIND}")
        is_named = about.pop("named", False)
        network, report = AutoModelForImageClassification.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True, **SAFE
        )
        if report["missing_keys"]:
            raise ValueError(f"{sorted(report['missing_keys'])[0]} is missing")
        model = HubClassifier(network, **about).eval()
        if is_named:
            names.named(model, [name for _, name in sorted(network.config.id2label.items())])
        return model


def _reading(source: str, config: Any) -> dict[str, Any]:
    """Return side, mean and standard deviation of the input, from the image processor or else the configuration."""
    processor = description(source, "preprocessor_config.json") or {}
    size = processor.get("size", getattr(config, "image_size", None))
    if isinstance(size, dict):
        size = size.get("height") or size.get("shortest_edge")
    if isinstance(size, list | tuple):
        size = size[0]
    channels = getattr(config, "num_channels", 3)
    mean = processor.get("image_mean", IMAGENET_DEFAULT_MEAN)
    std = processor.get("image_std", IMAGENET_DEFAULT_STD)
    if len(mean) != channels:
        mean, std = [0.5] * channels, [0.25] * channels
    return {"side": int(size or SIDE), "mean": list(mean), "std": list(std)}
