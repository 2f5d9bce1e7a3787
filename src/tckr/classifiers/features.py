"""Fixed features under a linear head: what a private teacher is made of.

Every vector is scaled to norm sqrt(D) and gets a constant as its last number, the bias; what an image gives depends on that
image alone.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tckr.classifiers.resnet import ResNet
from tckr.classifiers.scattering import dimension, scattering_features

KIND = "tckr.classifiers.features.LinearOnFeatures"
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class Scattering(nn.Module):
    """The scattering transform, which has no weights."""

    def __init__(self, channels: int, height: int, width: int) -> None:
        super().__init__()
        self.shape = (channels, height, width)
        self.size = dimension(channels, height, width)

    @property
    def config(self) -> dict[str, Any]:
        """Return what rebuilds it."""
        return {"features": "scattering", "shape": list(self.shape)}

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) in [0, 1] to (B, D)."""
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"this teacher reads images of {self.shape}, not {tuple(x.shape[1:])}")
        return scattering_features(x)


class NetworkFeatures(nn.Module):
    """What a ResNet hands to its head."""

    def __init__(self, network: ResNet) -> None:
        super().__init__()
        self.network = network
        self.size = int(network.head.in_features)

    @property
    def config(self) -> dict[str, Any]:
        """Return what rebuilds it."""
        return {"features": "network", "network": self.network.config}

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) in [0, 1] to (B, D)."""
        found: list[Tensor] = []
        hook = self.network.head.register_forward_pre_hook(
            lambda _, inputs: found.append(inputs[0])
        )
        try:
            self.network(x)
        finally:
            hook.remove()
        return F.layer_norm(found[0], found[0].shape[1:])


class ClipFeatures(nn.Module):
    """The image embedding of a CLIP; images are resized to its own side (bicubic) and normalised as CLIP was trained."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, vision: Any, mean: tuple[float, ...] = CLIP_MEAN, std: tuple[float, ...] = CLIP_STD
    ) -> None:
        super().__init__()
        self.vision = vision
        self.size = int(vision.config.projection_dim)
        self.side = int(vision.config.image_size)
        for name, values in {"mean": mean, "std": std}.items():
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1), persistent=False)

    @property
    def config(self) -> dict[str, Any]:
        """Return what rebuilds it."""
        return {
            "features": "clip",
            "vision": self.vision.config.to_dict(),
            "mean": self.mean.flatten().tolist(),
            "std": self.std.flatten().tolist(),
        }

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) in [0, 1] to (B, D)."""
        size = (self.side, self.side)
        x = F.interpolate(x.expand(-1, 3, -1, -1), size, mode="bicubic", antialias=True).clamp(0, 1)
        embedded = self.vision(pixel_values=(x - self.mean) / self.std).image_embeds
        return F.layer_norm(embedded, embedded.shape[1:])


class LinearOnFeatures(nn.Module):
    """Fixed features, scaled to norm sqrt(D), and a linear head whose last input is constant 1.

    Example:
        >>> teacher = LinearOnFeatures(Scattering(1, 8, 8), n_classes=3)
        >>> teacher(torch.rand(2, 1, 8, 8)).shape
        torch.Size([2, 3])
    """

    def __init__(self, body: Scattering | NetworkFeatures | ClipFeatures, n_classes: int) -> None:
        super().__init__()
        self.body = body.eval().requires_grad_(False)
        self.n_classes = n_classes
        self.head = nn.Linear(body.size + 1, n_classes, bias=False)
        nn.init.zeros_(self.head.weight)

    @property
    def config(self) -> dict[str, object]:
        """Return what rebuilds it, without the weights."""
        return {"n_classes": self.n_classes, **self.body.config}

    @classmethod
    def from_config(cls, n_classes: int, features: str, **about: Any) -> "LinearOnFeatures":
        """Build it, its weights without meaning, from `config`."""
        body: Scattering | NetworkFeatures | ClipFeatures
        if features == "scattering":
            body = Scattering(*about["shape"])
        elif features == "network":
            body = NetworkFeatures(ResNet(**about["network"]))
        elif features == "clip":
            from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

            vision = CLIPVisionModelWithProjection(CLIPVisionConfig(**about["vision"]))
            body = ClipFeatures(vision, tuple(about["mean"]), tuple(about["std"]))
        else:
            raise TypeError(f"features {features} are unknown")
        return cls(body, n_classes)

    def train(self, mode: bool = True) -> "LinearOnFeatures":
        """Set the mode of the head alone: features are fixed."""
        super().train(mode)
        self.body.eval()
        return self

    def features(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) in [0, 1] to what the head reads, float32 (B, D + 1)."""
        vectors = F.normalize(self.body(x.float()), dim=1) * math.sqrt(self.body.size)
        return F.pad(vectors, (0, 1), value=1.0)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W), float in [0, 1] or uint8, to logits (B, n_classes)."""
        if x.dtype == torch.uint8:
            x = x / 255
        # In float32 also under autocast: a student should not learn from rounded labels.
        with torch.autocast(x.device.type, enabled=False):
            return self.head(self.features(x))


def logits_of_each(models: Sequence[nn.Module], x: Tensor) -> list[Tensor]:
    """Return the logits of each model for the same images; heads on the scattering transform share its features.

    Args:
        models: in evaluation mode.
        x: float images (B, C, H, W) in [0, 1].

    Returns:
        (B, n_classes) of each, what it gives by itself.

    Example:
        >>> one, other = (LinearOnFeatures(Scattering(1, 8, 8), n_classes=3) for _ in range(2))
        >>> [len(found) for found in logits_of_each([one, other], torch.rand(2, 1, 8, 8))]
        [2, 2]
    """
    heads = [
        m for m in models if isinstance(m, LinearOnFeatures) and isinstance(m.body, Scattering)
    ]
    if len(heads) < 2:
        return [model(x) for model in models]
    with torch.autocast(x.device.type, enabled=False):
        features = heads[0].features(x)
        shared = {id(head): head.head(features) for head in heads}
    return [shared[id(model)] if id(model) in shared else model(x) for model in models]


def load_clip_features(folder: str | Path) -> ClipFeatures:
    """Return the features of a CLIP folder of transformers, on the CPU.

    Raises:
        UserError: the folder is missing, incomplete, or holds another kind of model.
    """
    from transformers import AutoConfig, CLIPModel, CLIPVisionModelWithProjection

    from tckr.engine.loading import OFFLINE, SAFE, check_kind, description, readable

    remedy = "give a folder of a transformers CLIPModel with its image processor."
    check_kind(folder, "model_type", ["clip", "clip_vision_model"], remedy)
    with readable(f"CLIP {folder}", remedy):
        config = AutoConfig.from_pretrained(folder, **OFFLINE)
        if config.model_type == "clip":
            whole = CLIPModel.from_pretrained(folder, dtype=torch.float32, **SAFE)
            # The whole model's projection; that in the part's configuration may be a default.
            config.vision_config.projection_dim = config.projection_dim
            vision = CLIPVisionModelWithProjection(config.vision_config)
            vision.load_state_dict(
                {
                    k: v
                    for k, v in whole.state_dict().items()
                    if k.startswith(("vision_model.", "visual_projection."))
                }
            )
        else:
            vision = CLIPVisionModelWithProjection.from_pretrained(
                folder, dtype=torch.float32, **SAFE
            )
        processor = description(str(folder), "preprocessor_config.json") or {}
    mean, std = processor.get("image_mean", CLIP_MEAN), processor.get("image_std", CLIP_STD)
    return ClipFeatures(vision, tuple(mean), tuple(std))
