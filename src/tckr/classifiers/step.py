"""One optimizer step of a classifier, on targets or on what a teacher says of the same views."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tckr.classifiers.augment import mix_up, views
from tckr.classifiers.fixed_views import show, view_table
from tckr.classifiers.options import ClassifierOptions
from tckr.classifiers.soft_labels import soften


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    rows: Tensor,
    options: ClassifierOptions,
    generator: torch.Generator,
    *,
    teacher: nn.Module | None = None,
    target: Tensor | None = None,
) -> Tensor:
    """Take one optimizer step on random views of the images at `rows`.

    Args:
        model: in training mode.
        optimizer: of its weights.
        images: uint8 (N, C, H, W), all images or those of the batch; everything else is on their device.
        rows: int64 (B,), where the batch lies in them.
        options: of which augmentation, soft labels and label smoothing are read.
        generator: on their device; draws the views.
        teacher: in evaluation mode; None trains on `target`.
        target: float32 (B, n_classes), of the batch, or (B, K, n_classes) of K fixed views of each image, of which one is
            drawn; read only without a teacher.

    Returns:
        The loss of the batch, a scalar.
    """
    optimizer.zero_grad(set_to_none=True)
    if teacher is None and target is not None and target.ndim == 3:
        table = view_table(target.shape[1], options.augmentation, images.device)
        numbers = torch.randint(len(table), (len(rows),), generator=generator, device=images.device)
        batch = show(images, rows, numbers, table)
        target = target[torch.arange(len(rows), device=target.device), numbers]
    else:
        batch = views(images, rows, options.augmentation, generator)
    device = images.device.type
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        if teacher is not None:
            with torch.no_grad():
                target = soften(teacher(batch).float().softmax(1), options.soft_labels)
        else:
            assert target is not None
            if options.augmentation.mixup:
                alpha = options.augmentation.mixup
                batch, target = mix_up(batch, target, alpha, generator)
        logits = model(batch).float()
    # With a teacher T this is generative knowledge distillation (GKD: Lomurno et al., arXiv 2407.15526; TCKR,
    # arXiv 2504.04582), with `soften` (by default the identity) and label smoothing s, for each view x and C classes:
    # L(x) = -sum_c [(1 - s) soften(softmax(z_T(x)))_c + s / C] log softmax(z_S(x))_c
    loss = F.cross_entropy(logits, target, label_smoothing=options.label_smoothing)
    loss.backward()
    optimizer.step()
    return loss.detach()


def frozen(teacher: nn.Module, device: torch.device) -> nn.Module:
    """Return a copy of `teacher` on the device, in evaluation mode."""
    network = copy.deepcopy(teacher).to(device).eval().requires_grad_(False)
    if device.type == "cuda":
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network
