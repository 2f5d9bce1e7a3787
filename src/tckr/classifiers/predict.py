"""Logits, soft labels and accuracy of a trained classifier."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from tckr.classifiers.features import logits_of_each


def logits(
    model: nn.Module,
    images: Tensor,
    batch_size: int | None = None,
    *,
    view: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Return the logits of unaugmented images, computed in float32 on the device of the model.

    Args:
        model: is put into evaluation mode.
        images: uint8 (N, C, H, W), on any device; they are moved to the model's a batch at a time.
        batch_size: images at once; None takes 256 of 32 x 32 pixels, on a GPU 2,048, and fewer larger ones.
        view: gives what the model is shown of a batch, uint8 of its shape; None shows the images themselves.

    Returns:
        float32 (N, n_classes) on the CPU.
    """
    return logits_each([model], images, batch_size, view=view)[0]


def logits_each(
    models: Sequence[nn.Module],
    images: Tensor,
    batch_size: int | None = None,
    *,
    view: Callable[[Tensor], Tensor] | None = None,
) -> list[Tensor]:
    """Return `logits` of models on one device, in one pass over the images, whose fixed features they share."""
    device = next(models[0].parameters()).device
    size = batch_size or usual_batch(device, images)
    for model in models:
        model.eval()
    with torch.inference_mode():
        # Copied to the CPU once, at the end: every copy waits for the GPU.
        parts = []
        for part in images.split(size):
            shown = part.to(device) if view is None else view(part.to(device))
            parts.append([z.float() for z in logits_of_each(models, shown.float().div_(255))])
    return [torch.cat(each).cpu() for each in zip(*parts, strict=True)]


def soft_labels(model: nn.Module, images: Tensor, batch_size: int | None = None) -> Tensor:
    """Return class probabilities at temperature 1, float32 (N, n_classes) on the CPU; arguments as for `logits`."""
    return logits(model, images, batch_size).softmax(1)


def usual_batch(device: torch.device, images: Tensor) -> int:
    """Return how many images of this size are classified at once: 256 of 32 x 32 pixels, on a GPU 2,048."""
    pixels = images.shape[-2] * images.shape[-1]
    usual = 2048 if device.type == "cuda" else 256
    return max(8, min(usual, usual * 32 * 32 // pixels))


def accuracy(predicted: Tensor, labels: Tensor) -> dict[str, float | list[float | None]]:
    """Return the share of correct predictions, in percent.

    Args:
        predicted: logits or probabilities (N, C).
        labels: int64 (N,).

    Returns:
        `accuracy` over all images and `per_class`, one value per class (None for a class without
        images).

    Example:
        >>> accuracy(torch.tensor([[0.9, 0.1], [0.8, 0.2]]), torch.tensor([0, 1]))
        {'accuracy': 50.0, 'per_class': [100.0, 0.0]}
    """
    right = (predicted.argmax(1) == labels).double().numpy()
    classes = labels.numpy()
    per_class = [
        100 * float(np.mean(right[classes == c])) if np.any(classes == c) else None
        for c in range(predicted.shape[1])
    ]
    return {"accuracy": 100 * float(right.mean()), "per_class": per_class}
