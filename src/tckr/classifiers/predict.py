"""Logits, soft labels and accuracy of a trained classifier."""

import numpy as np
import torch
from torch import Tensor, nn


def logits(model: nn.Module, images: Tensor, batch_size: int = 256) -> Tensor:
    """Logits of unaugmented images.

    Args:
        model: in any mode; it is put into evaluation mode.
        images: uint8 (N, C, H, W).

    Returns:
        float32 (N, n_classes) on the CPU.
    """
    device = next(model.parameters()).device
    model.eval()
    with torch.inference_mode():
        parts = [
            model(part.to(device).float().div_(255)).float().cpu()
            for part in images.split(batch_size)
        ]
    return torch.cat(parts)


def soft_labels(model: nn.Module, images: Tensor, batch_size: int = 256) -> Tensor:
    """Class probabilities at temperature 1: float32 (N, n_classes), rows sum to 1."""
    return logits(model, images, batch_size).softmax(1)


def accuracy(predicted: Tensor, labels: Tensor) -> dict[str, float | list[float | None]]:
    """Share of right predictions, in percent.

    Args:
        predicted: logits or probabilities (N, C).
        labels: int64 (N,).

    Returns:
        `accuracy` over all images and `per_class`, one figure a class (None for a class without
        images).
    """
    right = (predicted.argmax(1) == labels).double().numpy()
    classes = labels.numpy()
    per_class = [
        100 * float(np.mean(right[classes == c])) if np.any(classes == c) else None
        for c in range(predicted.shape[1])
    ]
    return {"accuracy": 100 * float(right.mean()), "per_class": per_class}
