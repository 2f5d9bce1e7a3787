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
from tckr.classifiers.soft_labels import soften
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
        options: the recipe, of which augmentation, ridge, soft labels and label smoothing (of hard labels, and of the largest
            soft ones alone, whose zeros have no logarithm) are read.
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
    if lesson.targets is None:
        return wanted
    if lesson.targets.ndim == 3:
        return min(wanted, lesson.targets.shape[1])
    return wanted if _is_class(lesson.targets, lesson) else 1


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
    hard = [_is_hard(lesson, options) for lesson in lessons]
    rows = len(indices) * views
    system: _Primal | _Dual
    if rows < size:
        system = _Dual(size, n_classes, rows, len(lessons), device)
    else:
        system = _Primal(size, n_classes, len(lessons), device)
    with torch.inference_mode():
        for part in track(indices.split(PART), "scattering features", -(-len(indices) // PART)):
            pixels = images[part.to(images.device)].to(device)
            own = torch.arange(len(part), device=device)
            for number in range(views):
                batch = show(pixels, own, torch.full_like(own, number), table)
                x = network.features(batch)
                wanted = []
                for lesson, teacher, is_hard in zip(lessons, teachers, hard, strict=True):
                    if isinstance(teacher, LinearOnFeatures) and teacher.config == network.config:
                        z = teacher.head(x).double()  # the same features
                    elif teacher is not None:
                        z = teacher(batch).double()
                    else:
                        z = _logarithms(lesson.targets, part, number, is_hard, options).to(device)
                    if teacher is not None and not options.soft_labels.plain:
                        z = _logarithm(soften(z.softmax(1), options.soft_labels), is_hard, options)
                    wanted.append(z - z.mean(1, keepdim=True))
                system.add(x, wanted)
        weights = system.solve([_ridge(options, is_hard) for is_hard in hard])
    networks = [LinearOnFeatures.from_config(**network.config) for _ in lessons]  # type: ignore[arg-type]
    for fitted, weight in zip(networks, weights, strict=True):
        fitted.head.weight.data.copy_(weight)
    return [fitted.eval() for fitted in networks]


class _Primal:
    """The system over features, W = (X'X / n + ridge I)^-1 X'Z / n: the sums alone are kept, however many rows there are.

    In double precision: the smallest of a vector's principal components are far below its largest.
    """

    def __init__(self, size: int, n_classes: int, lessons: int, device: str | torch.device) -> None:
        self.rows = 0
        self.products = torch.zeros(size, size, dtype=torch.float64, device=device)
        self.sums = self.products.new_zeros(lessons, size, n_classes)

    def add(self, x: Tensor, wanted: Sequence[Tensor]) -> None:
        """Take in rows of features (B, D), and of each lesson what they should give, (B, n_classes)."""
        wide = x.double()
        self.products.addmm_(wide.T, wide)
        for total, z in zip(self.sums, wanted, strict=True):
            total.addmm_(wide.T, z)
        self.rows += len(x)

    def solve(self, ridges: Sequence[float]) -> list[Tensor]:
        """Return the weights (n_classes, D) of each lesson at its ridge."""
        roots = _roots(self.products / self.rows, ridges)
        return [
            torch.cholesky_solve(total / self.rows, roots[ridge]).T
            for total, ridge in zip(self.sums, ridges, strict=True)
        ]


class _Dual:
    """The same solution by a system over rows, W = X'(X X' / n + ridge I)^-1 Z / n, where they are fewer than features."""

    def __init__(
        self, size: int, n_classes: int, rows: int, lessons: int, device: str | torch.device
    ) -> None:
        self.done = 0
        self.features = torch.empty(rows, size, device=device)
        self.wanted = torch.empty(lessons, rows, n_classes, dtype=torch.float64, device=device)

    def add(self, x: Tensor, wanted: Sequence[Tensor]) -> None:
        """Take in rows of features (B, D), and of each lesson what they should give, (B, n_classes)."""
        place = slice(self.done, self.done + len(x))
        self.features[place] = x
        self.wanted[:, place] = torch.stack(list(wanted))
        self.done += len(x)

    def solve(self, ridges: Sequence[float]) -> list[Tensor]:
        """Return the weights (n_classes, D) of each lesson at its ridge."""
        n = len(self.features)
        roots = _roots(self._products() / n, ridges)
        found = [
            torch.cholesky_solve(z / n, roots[ridge])
            for z, ridge in zip(self.wanted, ridges, strict=True)
        ]
        duals = torch.cat(found, 1)  # (n, lessons * n_classes)
        weights = duals.new_zeros(duals.shape[1], self.features.shape[1])
        for x, dual in zip(self.features.split(PART), duals.split(PART), strict=True):
            weights.addmm_(dual.T, x.double())
        return list(weights.split(self.wanted.shape[2]))

    def _products(self) -> Tensor:
        """Return X X', float64 (n, n), block by block, because the features in double precision might not fit."""
        n = len(self.features)
        products = self.wanted.new_empty(n, n)
        starts = range(0, n, PART)
        for i in starts:
            x = self.features[i : i + PART].double()
            for j in (start for start in starts if start <= i):
                block = x @ self.features[j : j + PART].double().T
                products[i : i + PART, j : j + PART] = block
                products[j : j + PART, i : i + PART] = block.T
        return products


def _roots(products: Tensor, ridges: Sequence[float]) -> dict[float, Tensor]:
    """Return the Cholesky factor of the products, which may be overwritten, with each ridge added to its diagonal."""
    roots: dict[float, Tensor] = {}
    added = 0.0
    for ridge in dict.fromkeys(ridges):
        products.diagonal().add_(ridge - added)
        added = ridge
        roots[ridge] = torch.linalg.cholesky(products)
    return roots


def _ridge(options: ClassifierOptions, hard: bool) -> float:
    if options.ridge is not None:
        return options.ridge
    return RIDGE_HARD if hard else RIDGE


def _is_hard(lesson: Lesson, options: ClassifierOptions) -> bool:
    """Return whether the head learns classes: the targets are some, or a teacher tells its decisions alone."""
    if lesson.targets is None:
        return options.soft_labels.top_k == 1 and options.soft_labels.confidence == 1
    return _is_class(lesson.targets, lesson)


def _is_class(targets: Tensor, lesson: Lesson) -> bool:
    own = targets[lesson.indices.to(targets.device)]
    return bool(((own == 0) | (own == 1)).all())


def _logarithms(
    targets: Tensor | None, part: Tensor, number: int, hard: bool, options: ClassifierOptions
) -> Tensor:
    """Return the logarithms of the probabilities of a view, float64 (B, n_classes)."""
    assert targets is not None  # where there is no teacher
    own = targets[part.to(targets.device)].double()
    if own.ndim == 3:
        own = own[:, number]
    return _logarithm(own, hard, options)


def _logarithm(told: Tensor, hard: bool, options: ClassifierOptions) -> Tensor:
    """Return the logarithms of probabilities (B, n_classes), smoothed if some of them are 0 by design."""
    if hard or options.soft_labels.top_k is not None:
        smoothing = options.label_smoothing or SMOOTHING
        told = (1 - smoothing) * told + smoothing / told.shape[1]
    return told.clamp_min(SMALLEST).log()
