"""What an attack sees of a model: one figure an example."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp
from torch import Tensor, nn

from tckr.classifiers.augment import pad
from tckr.classifiers.options import AugmentationOptions
from tckr.classifiers.predict import logits_each
from tckr.errors import UserError


def logit_scaled(logits: ArrayLike, labels: ArrayLike) -> NDArray[np.float64]:
    """Logit-scaled confidence of the true class, phi = log p_y - log sum_{y' != y} p_y'.

    Carlini et al., S&P 2022 (arXiv 2112.03570), section VI-A, in its stable form: the softmax
    cancels, so that phi = z_y - logsumexp_{y' != y} z_y' without ever rounding p_y to 1.

    Args:
        logits: (N, C), C >= 2, raw outputs before any softmax.
        labels: int (N,), true classes.

    Returns:
        float64 (N,), unbounded.

    Raises:
        ValueError: shapes that do not fit, or a logit that is not finite.
    """
    z = np.asarray(logits, dtype=np.float64)
    y = np.asarray(labels, dtype=np.int64)
    if z.ndim != 2 or z.shape[1] < 2 or y.shape != (len(z),):
        raise ValueError(f"need logits (N, C >= 2) and labels (N,), not {z.shape} and {y.shape}")
    if not np.isfinite(z).all():
        raise ValueError("a logit is NaN or infinite")
    rows = np.arange(len(z))
    others = z.copy()
    others[rows, y] = -np.inf
    return z[rows, y] - logsumexp(others, axis=1)


STUDENT, WEIGHTS = (
    "student",
    "weights",
)  # the student as a black box, and as a file that the attacker holds

Shift = tuple[int, int, bool]
"""Pixels down, pixels to the right, and whether the view is mirrored."""


def query_views(queries: int, options: AugmentationOptions) -> list[Shift]:
    """Choose the views of every image with which a model is queried.

    The image itself comes first, then views that the model was trained on: mirrored, shifted along
    the axes, shifted and mirrored (Carlini et al., section VI-C: queries at the training augmentation).

    Args:
        queries: how many.
        options: augmentation of the recipe; what it switches off is not queried.

    Raises:
        UserError: the augmentation has fewer views.

    >>> query_views(3, AugmentationOptions(shift=2))
    [(0, 0, False), (0, 0, True), (0, 2, False)]
    """
    possible = every_view(options)
    if queries > len(possible):
        raise UserError(
            f"privacy_audit.queries asks for {queries} views; the augmentation has {len(possible)}.",
            f"ask for {len(possible)} at most.",
        )
    return possible[:queries]


def every_view(options: AugmentationOptions) -> list[Shift]:
    """Return the views of an image that a model can be queried with, the image itself first."""
    shift = options.shift
    corners = [(0, 0), (0, shift), (0, -shift), (shift, 0), (-shift, 0)] if shift else [(0, 0)]
    return [(*corner, flip) for corner in corners for flip in (False, True)[: 1 + options.flip]]


def shifted(images: Tensor, shift: Shift, options: AugmentationOptions) -> Tensor:
    """Return one view of each image, uint8 like `images` (B, C, H, W)."""
    (down, right, flip), margin = shift, options.shift
    height, width = images.shape[-2:]
    top, left = margin + down, margin + right
    view = pad(images, options)[..., top : top + height, left : left + width]
    return view.flip(-1) if flip else view


def model_scores(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    queries: int = 1,
    augmentation: AugmentationOptions | None = None,
) -> NDArray[np.float32]:
    """Logit-scaled confidence (N, queries) of a model in images uint8 (N, C, H, W) with classes (N,).

    The model's own precision is float32; a score is computed in float64 and kept in float32.
    """
    return model_scores_each([model], images, labels, [queries], augmentation)[0]


def model_scores_each(
    models: Sequence[nn.Module],
    images: Tensor,
    labels: Tensor,
    queries: Sequence[int],
    augmentation: AugmentationOptions | None = None,
) -> list[NDArray[np.float32]]:
    """Return `model_scores` of models on one device with as many queries each, in one pass over the images for each view."""
    options = augmentation or AugmentationOptions()
    scores: list[list[NDArray[np.float64]]] = [[] for _ in models]
    for number, shift in enumerate(query_views(max(queries), options)):
        asked = [i for i, own in enumerate(queries) if number < own]
        view = partial(shifted, shift=shift, options=options)
        said = logits_each([models[i] for i in asked], images, view=view)
        for i, z in zip(asked, said, strict=True):
            scores[i].append(logit_scaled(z.numpy(), labels.numpy()))
    return [np.stack(own, 1).astype(np.float32) for own in scores]
