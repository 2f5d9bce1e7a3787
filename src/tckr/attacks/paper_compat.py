"""The protocol of the published TCKR evaluation. Not a LiRA: kept to compare with its figures."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tckr.attacks.arrays import Floats, check_scores, finite
from tckr.attacks.lira import log_normal
from tckr.errors import UserError

CLIP = 1e-10
TINY = float(np.finfo(np.float64).tiny)


def paper_compat(
    target_logits: ArrayLike,
    labels: ArrayLike,
    shadow_in_logits: ArrayLike,
    shadow_out_logits: ArrayLike,
) -> dict[str, Floats]:
    """Compute the 12 scores of the TCKR notebook `mia_lira.ipynb`: **not a LiRA**, despite its name.

    Kept as published: raw logits are clipped to [1e-10, 1 - 1e-10] as if they were probabilities;
    "global" takes mean and variance over shadows *and* examples, so that the score is one fixed
    function of the target's own margin; "offline" is two-sided. In the paper no shadow saw a member
    ("in" and "out" are halves and quarters of the test split), and the largest of the 12 AUCs on
    the evaluation set was reported. Whoever does so must say that it is a maximum over 12.

    Args:
        target_logits: (N, C), raw.
        labels: int (N,).
        shadow_in_logits: (S_in, N, C), raw, of the shadows called "in".
        shadow_out_logits: (S_out, N, C).

    Returns:
        float64 (N,) for each `"<online|offline> <logit_stable|logit_unstable|logits>
        <global|per_example>"`.

    Raises:
        UserError: NaN logits, or shapes that do not fit.

    >>> random = np.random.default_rng(0)
    >>> shadow_logits = random.normal(size=(8, 5, 3))  # 8 shadows, 5 examples, 3 classes
    >>> found = paper_compat(shadow_logits[0], [0, 1, 2, 0, 1], shadow_logits[1:], shadow_logits)
    >>> len(found), found["online logits per_example"].shape
    (12, (5,))
    """
    z = finite("target", target_logits)
    z_in, z_out = finite("shadow", shadow_in_logits), finite("shadow", shadow_out_logits)
    y = np.asarray(labels, dtype=np.int64)
    shapes = {z_in.shape[1:], z_out.shape[1:], z.shape}
    if z.ndim != 2 or len(shapes) > 1 or y.shape != z.shape[:1] or not len(z_in) or not len(z_out):
        raise UserError(
            f"Attack arrays do not fit: target {z.shape}, labels {y.shape}, shadows {z_in.shape}"
            f" and {z_out.shape}.",
            "give (N, C), (N,), (S, N, C) and (S, N, C) of the same examples.",
        )
    result = {}
    for kind, score in (("logit_stable", _stable), ("logit_unstable", _unstable), ("logits", _gap)):
        x = score(z, y)
        for pooling in ("global", "per_example"):
            mean_in, variance_in = _fit_gaussian(score(z_in, y), pooling)
            mean_out, variance_out = _fit_gaussian(score(z_out, y), pooling)
            # Online: log N(x; mu_in, s_in^2) - log N(x; mu_out, s_out^2).
            ratio = log_normal(x, mean_in, variance_in) - log_normal(x, mean_out, variance_out)
            result[f"online {kind} {pooling}"] = np.clip(ratio, -1e10, 1e10)
            # Offline: -(x - mu_out)^2 / (2 s_out^2).
            distance = -0.5 * (x - mean_out) ** 2 / variance_out
            result[f"offline {kind} {pooling}"] = np.clip(distance, -1e10, 1e10)
    return result


def paper_compat_score(
    target_scores: ArrayLike, shadow_scores: ArrayLike, membership: ArrayLike
) -> Floats:
    """Compute one of the notebook's 12 scores on sound inputs: **not a LiRA**.

    What is kept is the scoring defect of its "online, logit_stable, global": one mean and one
    variance each over shadows *and* examples, so that every example is judged by the same function
    of its own phi: a global threshold in disguise (a two-sided one if s_in > s_out). What is not
    kept: phi is computed from the softmax, not from clipped raw logits; the shadows are those of
    the balanced membership matrix, half of which did see the example; and nothing is maximized. So
    this does not reproduce the published figures: see `paper_compat` for that.

    Args:
        target_scores: logit-scaled confidences phi, (N,); or (N, Q), averaged over Q queries.
        shadow_scores: those of the shadows, (S, N) or (S, N, Q).
        membership: bool (S, N), which examples each shadow was trained on.

    Returns:
        float64 (N,).

    Raises:
        UserError: NaN scores, shapes that do not fit, or fewer than two "in" or "out" scores.

    >>> membership = [[False, True], [True, False], [True, True], [False, False]]
    >>> shadow_scores = [[0.0, 3.0], [2.0, 1.0], [3.0, 4.0], [1.0, 0.0]]
    >>> paper_compat_score([3.0, 0.5], shadow_scores, membership).round(2).tolist()
    [9.03, -5.03]
    """
    phi, shadow_phi, is_in = check_scores(target_scores, shadow_scores, membership)
    is_in = is_in[:, :, 0]
    pooled = shadow_phi[is_in], shadow_phi[~is_in]  # (any number, Q) each
    if min(map(len, pooled)) < 2:
        raise UserError(
            "There are fewer than two shadow scores of one kind.",
            "use more shadows, with every example in half of them.",
        )
    (mean_in, variance_in), (mean_out, variance_out) = (
        (values.mean(0), np.maximum(values.var(0, ddof=1), TINY)) for values in pooled
    )
    # log N(phi; mu_in, s_in^2) - log N(phi; mu_out, s_out^2), the same Gaussians for all examples.
    return (log_normal(phi, mean_in, variance_in) - log_normal(phi, mean_out, variance_out)).mean(1)


def _fit_gaussian(scores: Floats, pooling: str) -> tuple[Floats, Floats]:
    """Return mean and variance of scores (S, N), over all or per example, as the notebook does."""
    if pooling == "global":
        return scores.mean(), np.maximum(scores.var(ddof=1), TINY)
    # The notebook floors the standard deviation at 1e-10 before it divides by it.
    return scores.mean(0), np.maximum(scores.var(0), 1e-20)


def _stable(logits: Floats, y: NDArray[np.int64]) -> Floats:
    own, others = _split_classes(np.clip(logits, CLIP, 1 - CLIP), y)
    return np.log(own) - np.log(np.maximum(others.sum(-1), CLIP))


def _unstable(logits: Floats, y: NDArray[np.int64]) -> Floats:
    own, _ = _split_classes(np.clip(logits, CLIP, 1 - CLIP), y)
    return np.log(own) - np.log(1 - own)


def _gap(logits: Floats, y: NDArray[np.int64]) -> Floats:
    own, others = _split_classes(logits, y)
    return own - others.max(-1)


def _split_classes(values: Floats, y: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Return the true class's values (..., N) and those of the other classes (..., N, C - 1)."""
    is_true = np.arange(values.shape[-1]) == y[:, None]
    n, n_classes = is_true.shape
    own = values[..., is_true]
    return own, values[..., ~is_true].reshape(*values.shape[:-2], n, n_classes - 1)
