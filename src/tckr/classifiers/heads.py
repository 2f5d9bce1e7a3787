"""Linear heads on the scattering transform, in closed form: students that can be what their teacher is.

A student learns by matching logits (Ba & Caruana 2014, arXiv 1312.6184): with features x of norm sqrt(D) and the centred
logarithms z of the labels, W = argmin sum |W x - z|^2 + n ridge |W|^2. A teacher that is itself a linear head on these
features satisfies this exactly for the synthetic images as for any other ones, whose distribution then does not matter. The
sums over all images are taken once, and serve all networks that learn from the same images.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tckr.classifiers.features import LinearOnFeatures, Scattering
from tckr.classifiers.fixed_views import show, view_table
from tckr.classifiers.options import ClassifierOptions
from tckr.classifiers.step import frozen
from tckr.engine.progress import track
from tckr.errors import UserError

LARGEST = 16_000  # numbers of a vector of which the matrix of products, 2 GB, is formed
ROWS = 1.25  # views of images, as a multiple of the numbers of a vector: enough to determine a head
MOST_VIEWS = 8  # of an image, however few there are
RIDGE, RIDGE_HARD = (
    1e-5,
    1.0,
)  # the mean of a feature's square is 1; a teacher's labels have no noise
SMOOTHING = 0.1  # of hard labels, whose logarithm would be infinite otherwise
SMALLEST = 1e-30  # probability
PART = 512  # images at once


@dataclass(frozen=True)
class Lesson:
    """What one head learns from.

    Attributes:
        indices: int64 (K,), the images, on the CPU.
        teacher: gives the labels of every view. None learns from targets.
        targets: float (N, n_classes), or (N, views, n_classes) of the fixed views, probabilities of all images.
    """

    indices: Tensor
    teacher: nn.Module | None = None
    targets: Tensor | None = None


def fit_heads(
    images: Tensor,
    lessons: Sequence[Lesson],
    options: ClassifierOptions,
    n_classes: int,
    device: str | torch.device = "cpu",
) -> list[LinearOnFeatures]:
    """Return a network for each lesson, in evaluation mode on the CPU; nothing is drawn at random.

    Args:
        images: uint8 (N, C, H, W); they may be memory-mapped.
        lessons: what each learns from.
        options: the recipe, of which augmentation, ridge and label smoothing (of hard labels alone) are read.
        n_classes: classes of every network.
        device: where to compute.

    Raises:
        UserError: the images are so large that the features are too many.

    Example:
        >>> images, indices = torch.randint(0, 256, (40, 1, 8, 8), dtype=torch.uint8), torch.arange(40)
        >>> lesson = Lesson(indices, targets=torch.eye(2)[indices % 2])
        >>> (network,) = fit_heads(images, [lesson], ClassifierOptions(architecture="scattering"), n_classes=2)
        >>> network(images).shape
        torch.Size([40, 2])
    """
    found: dict[int, LinearOnFeatures] = {}
    waiting = list(range(len(lessons)))
    while waiting:
        first = lessons[waiting[0]]
        alike = [number for number in waiting if _same_rows(lessons[number], first)]
        networks = _fit(images, [lessons[number] for number in alike], options, n_classes, device)
        found |= dict(zip(alike, networks, strict=True))
        waiting = [number for number in waiting if number not in found]
    return [found[number] for number in range(len(lessons))]


def _same_rows(lesson: Lesson, other: Lesson) -> bool:
    alike = _views(lesson, 1 << 20) == _views(other, 1 << 20)
    return alike and torch.equal(lesson.indices, other.indices)


def _views(lesson: Lesson, size: int) -> int:
    """Return how many views of each image are looked at: what a head of `size` asks for, of stored ones what there is."""
    wanted = min(MOST_VIEWS, math.ceil(ROWS * size / len(lesson.indices)))
    if lesson.targets is None or _is_hard(lesson):
        return wanted
    return min(wanted, lesson.targets.shape[1] if lesson.targets.ndim == 3 else 1)


def _fit(
    images: Tensor,
    lessons: Sequence[Lesson],
    options: ClassifierOptions,
    n_classes: int,
    device: str | torch.device,
) -> list[LinearOnFeatures]:
    """Fit the heads of lessons on the same views of the same images."""
    network = LinearOnFeatures(Scattering(*images.shape[1:]), n_classes).to(device)
    size, indices = network.head.in_features, lessons[0].indices
    if size > LARGEST:
        raise UserError(
            f"Images of {tuple(images.shape[1:])} have {size:,} scattering features, more than {LARGEST:,}.",
            "set ingestion.size to 32 or less, or classifier.architecture to resnet.",
        )
    views = _views(lessons[0], size)
    table = view_table(views, options.augmentation, device)
    teachers = [
        None if lesson.teacher is None else frozen(lesson.teacher, torch.device(device))
        for lesson in lessons
    ]
    hard = [_is_hard(lesson) for lesson in lessons]
    # In double precision: the smallest of a vector's principal components are far below its largest.
    products = torch.zeros(size, size, dtype=torch.float64, device=device)
    sums = [torch.zeros(size, n_classes, dtype=torch.float64, device=device) for _ in lessons]
    with torch.inference_mode():
        for part in track(indices.split(PART), "scattering features", -(-len(indices) // PART)):
            pixels = images[part.to(images.device)].to(device)
            rows = torch.arange(len(part), device=device)
            for number in range(views):
                batch = show(pixels, rows, torch.full_like(rows, number), table)
                x = network.features(batch)
                wide = x.double()
                products.addmm_(wide.T, wide)
                for i, lesson in enumerate(lessons):
                    teacher = teachers[i]
                    if isinstance(teacher, LinearOnFeatures) and teacher.config == network.config:
                        z = teacher.head(x).double()  # the same features
                    elif teacher is not None:
                        z = teacher(batch).double()
                    else:
                        z = _logarithms(lesson.targets, part, number, hard[i], options).to(device)
                    sums[i].addmm_(wide.T, z - z.mean(1, keepdim=True))
    return _solve(network, products, sums, hard, len(indices) * views, options)


def _solve(
    network: LinearOnFeatures,
    products: Tensor,
    sums: Sequence[Tensor],
    hard: Sequence[bool],
    rows: int,
    options: ClassifierOptions,
) -> list[LinearOnFeatures]:
    networks: list[LinearOnFeatures] = []
    factors: dict[float, Tensor] = {}
    for total, is_hard in zip(sums, hard, strict=True):
        ridge = options.ridge if options.ridge is not None else RIDGE_HARD if is_hard else RIDGE
        if ridge not in factors:
            regular = products / rows
            regular.diagonal().add_(ridge)
            factors[ridge] = torch.linalg.cholesky(regular)
        fitted = LinearOnFeatures.from_config(**network.config)  # type: ignore[arg-type]
        weight = torch.cholesky_solve(total / rows, factors[ridge]).T
        fitted.head.weight.data.copy_(weight)
        networks.append(fitted.eval())
    return networks


def _is_hard(lesson: Lesson) -> bool:
    """Return whether the targets are classes."""
    if lesson.targets is None:
        return False
    targets = lesson.targets[lesson.indices.to(lesson.targets.device)]
    return bool(((targets == 0) | (targets == 1)).all())


def _logarithms(
    targets: Tensor | None, part: Tensor, number: int, hard: bool, options: ClassifierOptions
) -> Tensor:
    """Return the logarithms of the probabilities of a view, float64 (B, n_classes)."""
    assert targets is not None  # where there is no teacher
    own = targets[part.to(targets.device)].double()
    if own.ndim == 3:
        own = own[:, number]
    if hard:
        smoothing = options.label_smoothing or SMOOTHING
        own = (1 - smoothing) * own + smoothing / own.shape[1]
    return own.clamp_min(SMALLEST).log()
