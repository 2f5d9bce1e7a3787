"""What an attack sees of a model: one figure an example."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp
from torch import Tensor, nn

from tckr.classifiers.augment import pad
from tckr.classifiers.options import AugmentationOptions
from tckr.classifiers.predict import logits
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


def query_views(images: Tensor, queries: int, options: AugmentationOptions) -> list[Tensor]:
    """Return the views of every image with which a model is queried, each like `images`.

    The image itself comes first, then views that the model was trained on: mirrored, shifted along
    the axes, shifted and mirrored (Carlini et al., section VI-C: queries at the training augmentation).

    Args:
        images: uint8 (N, C, H, W).
        queries: how many.
        options: augmentation of the recipe; what it switches off is not queried.

    Raises:
        UserError: the augmentation has fewer views.
    """
    margin, (height, width) = options.shift, images.shape[-2:]
    framed = pad(images, options)
    corners = [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)] if margin else [(0, 0)]
    possible = len(corners) * (2 if options.flip else 1)
    if queries > possible:
        raise UserError(
            f"privacy_audit.queries asks for {queries} views; the augmentation has {possible}.",
            f"ask for {possible} at most.",
        )
    views: list[Tensor] = []
    for down, right in corners:
        top, left = margin + down * margin, margin + right * margin
        view = framed[..., top : top + height, left : left + width]
        views += [view, view.flip(-1)] if options.flip else [view]
    return views[:queries]


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
    scores = [
        logit_scaled(logits(model, view).numpy(), labels.numpy())
        for view in query_views(images, queries, augmentation or AugmentationOptions())
    ]
    return np.stack(scores, 1).astype(np.float32)
