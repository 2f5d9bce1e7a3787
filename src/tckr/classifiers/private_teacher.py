"""A teacher under differential privacy: what it says of images that no private image shaped is post-processing.

Two kinds behind one call. `linear`: multinomial logistic regression on fixed features by noisy full-batch gradients
(Tramèr & Boneh 2021, arXiv 2011.11660): every step is an exact Gaussian mechanism, and the norm of an image's gradient is
|p - y| |x|, without autograd. `dp_sgd`: fine-tuning of a network that was pre-trained on public images, or on images already
under differential privacy (De et al. 2022, arXiv 2204.13650), with group norm and several views an image.
"""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tckr.classifiers.augment import pad, views
from tckr.classifiers.features import (
    ClipFeatures,
    LinearOnFeatures,
    NetworkFeatures,
    Scattering,
    load_clip_features,
)
from tckr.classifiers.private_options import PrivateTeacherOptions
from tckr.classifiers.resnet import ResNet
from tckr.dp.budget import Plan
from tckr.dp.ledger import Entry, code_of
from tckr.dp.mechanisms import add_noise
from tckr.dp.noise import Noise
from tckr.engine.checkpoint import Checkpoint
from tckr.engine.mapped import mapped_array
from tckr.engine.progress import track
from tckr.errors import UserError
from tckr.training.private import check_charged, private_minimize, private_plan

__all__ = ["teacher_plan", "teacher_size", "train_private_teacher"]

GIB = 1 << 30
PART = 256  # images of 28 x 28 whose features are computed at once


def teacher_plan(options: PrivateTeacherOptions, share: float, name: str = "teacher") -> Plan:
    """Return what to plan in the ledger: a Gaussian of every image for `linear`, on a Poisson sample for `dp_sgd`.

    >>> teacher_plan(PrivateTeacherOptions(), share=1).mechanism
    'gaussian'
    """
    if options.kind == "dp_sgd":
        return private_plan(options.dp_sgd, share, name, train_private_teacher)
    return Plan(
        name=name,
        mechanism="gaussian",
        steps=options.steps,
        sensitivity=options.max_grad_norm,
        share=share,
        why="a step adds up gradients, of which each is of one image alone and clipped to this norm; features are fixed",
        code=code_of(train_private_teacher),
    )


def teacher_size(
    options: PrivateTeacherOptions,
    shape: Sequence[int],
    n_classes: int,
    network: ResNet | None = None,
) -> int:
    """Return how many numbers the noise of a step falls on: the weights that are trained.

    >>> teacher_size(PrivateTeacherOptions(), (1, 28, 28), 10)
    39700

    Args:
        options: kind and features.
        shape: channels, height and width of the images.
        n_classes: classes of the teacher.
        network: as for `train_private_teacher`.
    """
    if options.kind == "dp_sgd":
        assert network is not None
        return sum(weights.numel() for weights in network.parameters())
    return n_classes * (_body(shape, options, network).size + 1)


def train_private_teacher(
    images: Tensor,
    labels: Tensor,
    n_classes: int,
    options: PrivateTeacherOptions,
    entry: Entry,
    noise: Noise,
    device: str | torch.device = "cpu",
    *,
    network: ResNet | None = None,
    count: int | None = None,
    checkpoint: Checkpoint | None = None,
) -> nn.Module:
    """Train a teacher on private images.

    Args:
        images: uint8, or float in [0, 1], (N, C, H, W).
        labels: int64 (N,).
        n_classes: classes of the teacher, as the owner names them, whether or not an image shows each.
        options: kind and schedule.
        entry: what the ledger charged, planned by `teacher_plan`: its noise is the noise that is added.
        noise: draws the noise, and for `dp_sgd` the samples and the seed of the views.
        device: where to train.
        network: for features `network` and for `dp_sgd`: trained on public images, or on images already under
            differential privacy. It is not changed.
        count: the number of images as the ledger states it, a public constant by which sums are divided; None takes
            len(images) and so declares it public.
        checkpoint: for `dp_sgd`: see `tckr.training.private.private_minimize`.

    Returns:
        The teacher in evaluation mode on the CPU: float images (B, C, H, W) in [0, 1] to logits.

    Raises:
        ValueError: images and labels do not fit, or `network` is missing.
        UserError: the training diverged, or the ledger charged another schedule.

    Example:
        >>> from tckr.dp import Ledger
        >>> images, labels = torch.rand(6, 1, 8, 8), torch.tensor([0, 1, 2, 0, 1, 2])
        >>> options, ledger = PrivateTeacherOptions(steps=3), Ledger(10, delta=0.1, n=6, data_hash="4f2a")
        >>> _ = ledger.plan([teacher_plan(options, share=1)])
        >>> noise = Noise()
        >>> teacher = train_private_teacher(images, labels, 3, options, ledger.spend("teacher", noise), noise)
        >>> teacher(images).shape
        torch.Size([6, 3])
    """
    if len(images) != len(labels):
        raise ValueError(f"{len(images)} images but {len(labels)} labels")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < n_classes:
        raise ValueError(f"classes must lie in 0..{n_classes - 1}")
    check_charged(entry, teacher_plan(options, 0.0, entry.name))
    if options.kind == "dp_sgd":
        if network is None:
            raise ValueError("kind dp_sgd needs a network")
        return _fine_tune(
            images, labels, n_classes, options, entry, noise, device, network,
            count, checkpoint,
        )  # fmt: skip
    teacher = LinearOnFeatures(_body(images.shape[1:], options, network), n_classes).to(device)
    features = _features(teacher, images, options.cache_gib)
    weight = train_head(features, labels.to(device), n_classes, options, entry, noise, count)
    if not bool(weight.isfinite().all()):
        raise UserError(
            "The private teacher diverged: its weights are no longer numbers.",
            "lower private_teacher.learning_rate.",
        )
    with torch.no_grad():
        teacher.head.weight.copy_(weight)
    return teacher.cpu().eval()


def train_head(
    features: Tensor,
    labels: Tensor,
    n_classes: int,
    options: PrivateTeacherOptions,
    entry: Entry,
    noise: Noise,
    count: int | None = None,
) -> Tensor:
    """Train a linear head by noisy full-batch gradients with momentum, from zero; return the average of its iterates.

    Args:
        features: float32 (N, D), on any device or mapped from a file.
        labels: int64 (N,), on the device to train on.
        n_classes: classes of the head.
        options: steps, learning rate, clipping, momentum, averaging.
        entry: as for `train_private_teacher`.
        noise: as for `train_private_teacher`.
        count: as for `train_private_teacher`.

    Returns:
        float64 (n_classes, D).
    """
    device, count = labels.device, count or len(labels)
    rate = options.rate_for(entry.noise_multiplier, count, features.shape[1])
    if (4 + 8) * features.numel() <= options.cache_gib * GIB:
        features = features.to(device).double()  # once, not in every step
    shape = (n_classes, features.shape[1])
    weight, velocity, average = (
        torch.zeros(shape, dtype=torch.float64, device=device) for _ in range(3)
    )
    for step in track(range(entry.steps), "private teacher", entry.steps):
        total = clipped_gradient_sum(weight, features, labels, entry.sensitivity)
        total = add_noise(total, entry, noise)
        velocity = options.momentum * velocity + total / count
        weight = weight - rate * velocity
        # early on the average follows the weights closely, so that the start is soon forgotten
        average = average.lerp(weight, 1 - min(options.averaging, (1 + step) / (10 + step)))
    return average


def clipped_gradient_sum(
    weight: Tensor, features: Tensor, labels: Tensor, max_norm: float, rows: int = 8192
) -> Tensor:
    """Return the sum of the clipped gradients of the cross-entropy: the statistic that noise is added to.

    Image i's gradient is (p_i - y_i) x_i^T, whose norm is |p_i - y_i| |x_i|; an image more or less changes the sum by at most
    `max_norm`.

    Args:
        weight: (n_classes, D).
        features: float32 (N, D).
        labels: int64 (N,).
        max_norm: of one image's gradient; infinity for none.
        rows: images at once.

    Returns:
        float64 (n_classes, D).
    """
    total = torch.zeros_like(weight, dtype=torch.float64)
    for start in range(0, len(labels), rows):
        # In double precision, so that an image more or less cannot move the others' terms by rounding.
        x = features[start : start + rows].to(weight.device).double()
        error = (x @ weight.double().T).softmax(1)
        error -= F.one_hot(labels[start : start + rows], len(weight))
        norm = error.norm(dim=1) * x.norm(dim=1)
        factor = torch.where(norm.isfinite(), ((1 - 1e-9) * max_norm / norm).clamp(max=1), 0.0)
        error *= factor[:, None]
        if not bool(norm.isfinite().all()):  # what is no number adds nothing
            error, x = error.nan_to_num(0.0), x.nan_to_num(0.0, 0.0, 0.0)
        total += error.T @ x
    return total


def _body(
    shape: Sequence[int], options: PrivateTeacherOptions, network: ResNet | None
) -> Scattering | NetworkFeatures | ClipFeatures:
    if options.features == "scattering":
        return Scattering(*shape)
    if options.features == "clip":
        assert options.encoder is not None  # PrivateTeacherOptions sees to it
        return load_clip_features(options.encoder)
    if network is None:
        raise ValueError("features network need a network")
    return NetworkFeatures(copy.deepcopy(network))


def _features(teacher: LinearOnFeatures, images: Tensor, cache_gib: float) -> Tensor:
    """Compute the features of all images once, float32 (N, D + 1); beyond the budget in a scratch file that is mapped."""
    device = next(teacher.parameters()).device
    shape = (len(images), teacher.head.in_features)
    size = max(8, PART * 28 * 28 // (images.shape[-2] * images.shape[-1]))
    if 4 * shape[0] * shape[1] <= cache_gib * GIB:
        held = torch.empty(shape, device=device)
    else:
        held = torch.from_numpy(mapped_array(shape, np.float32))
    with torch.inference_mode():
        for start in track(range(0, len(images), size), "features", -(-len(images) // size)):
            part = images[start : start + size].to(device)
            part = part / 255 if part.dtype == torch.uint8 else part.float()
            held[start : start + size] = teacher.features(part)
    return held


def _fine_tune(
    images: Tensor,
    labels: Tensor,
    n_classes: int,
    options: PrivateTeacherOptions,
    entry: Entry,
    noise: Noise,
    device: str | torch.device,
    network: ResNet,
    count: int | None,
    checkpoint: Checkpoint | None,
) -> nn.Module:
    """Fine-tune a copy of `network`, its head new and zero, by DP-SGD; batch norm, if any, keeps its statistics."""
    teacher = copy.deepcopy(network).to(device).eval().requires_grad_(True)
    teacher.head = nn.Linear(teacher.head.in_features, n_classes, device=device)
    teacher.n_classes = n_classes
    nn.init.zeros_(teacher.head.weight)
    nn.init.zeros_(teacher.head.bias)
    for layer in teacher.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.requires_grad_(False)
    pixels = images if images.dtype == torch.uint8 else (images * 255).round().to(torch.uint8)
    padded, labels = pad(pixels.to(device), options.augmentation), labels.to(device)
    generator = torch.Generator(device).manual_seed(noise.seed())
    passes = options.dp_sgd.passes

    def loss(rows: Tensor) -> Tensor:
        own = rows.to(device).repeat_interleave(passes)
        batch = views(padded, own, options.augmentation, generator)
        return F.cross_entropy(teacher(batch).float(), labels[own], reduction="sum") / passes

    private_minimize(
        teacher, loss, len(images), options.dp_sgd, entry, noise, "private teacher",
        count=count, checkpoint=checkpoint,
    )  # fmt: skip
    return teacher.requires_grad_(True).cpu().eval()
