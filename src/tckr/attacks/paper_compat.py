"""The protocol of the published TCKR evaluation. Not a LiRA: kept to compare with its figures."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tckr.attacks.arrays import Floats, checked, finite
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
    """The 12 scores of the TCKR notebook `mia_lira.ipynb`: **not a LiRA**, whatever its name.

    Kept as published: raw logits are clipped to [1e-10, 1 - 1e-10] as if they were probabilities;
    "global" takes mean and variance over shadows *and* examples, so that the score is one fixed
    function of the target's own margin; "offline" is the two-sided -(x - mu)^2 / (2 s^2). In the
    paper no shadow saw a member ("in" and "out" are halves and quarters of the test split), and the
    largest of the 12 AUCs on the evaluation set was reported. A caller who does so has to say that
    it is a maximum over 12.

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
    """
    z = finite("target", target_logits)
    ins, outs = finite("shadow", shadow_in_logits), finite("shadow", shadow_out_logits)
    y = np.asarray(labels, dtype=np.int64)
    shapes = {ins.shape[1:], outs.shape[1:], z.shape}
    if z.ndim != 2 or len(shapes) > 1 or y.shape != z.shape[:1] or not len(ins) or not len(outs):
        raise UserError(
            f"Attack arrays do not fit: target {z.shape}, labels {y.shape}, shadows {ins.shape}"
            f" and {outs.shape}.",
            "give (N, C), (N,), (S, N, C) and (S, N, C) of the same examples.",
        )
    result = {}
    for kind, score in (("logit_stable", _stable), ("logit_unstable", _unstable), ("logits", _gap)):
        x = score(z, y)
        for pooling in ("global", "per_example"):
            inside, outside = (_fit(score(shadows, y), pooling) for shadows in (ins, outs))
            ratio = log_normal(x, *inside) - log_normal(x, *outside)
            result[f"online {kind} {pooling}"] = np.clip(ratio, -1e10, 1e10)
            distance = -0.5 * (x - outside[0]) ** 2 / outside[1]
            result[f"offline {kind} {pooling}"] = np.clip(distance, -1e10, 1e10)
    return result


def paper_compat_score(target: ArrayLike, shadow: ArrayLike, membership: ArrayLike) -> Floats:
    """One of the notebook's 12 scores on sound inputs: **not a LiRA**.

    What is kept is the scoring defect of its "online, logit_stable, global": log N(phi; mu_in,
    s_in^2) - log N(phi; mu_out, s_out^2) with one mean and one variance each over shadows *and*
    examples, so that every example is judged by the same function of its own phi: a global
    threshold in disguise (a two-sided one where s_in > s_out). What is not kept: phi is computed
    from the softmax, not from clipped raw logits; the shadows are those of the balanced membership
    matrix, half of which did see the example; and nothing is maximised. So the published figures
    are not reproduced by this: see `paper_compat` for that.

    Args:
        target: (N,), or (N, Q): then the mean over the queries.
        shadow: (S, N), or (S, N, Q).
        membership: (S, N).

    Returns:
        float64 (N,).

    Raises:
        UserError: NaN scores, shapes that do not fit, or no "in" or no "out" score.
    """
    x, scores, inside = checked(target, shadow, membership)
    sides = scores[inside[:, :, 0]], scores[~inside[:, :, 0]]  # (any number, Q) each
    if min(map(len, sides)) < 2:
        raise UserError(
            "There are fewer than two shadow scores of one kind.",
            "use more shadows, with every example in half of them.",
        )
    (mean_in, variance_in), (mean_out, variance_out) = (
        (side.mean(0), np.maximum(side.var(0, ddof=1), TINY)) for side in sides
    )
    return (log_normal(x, mean_in, variance_in) - log_normal(x, mean_out, variance_out)).mean(1)


def _fit(scores: Floats, pooling: str) -> tuple[Floats, Floats]:
    """Mean and variance of scores (S, N): over everything, or for each example; as the notebook."""
    if pooling == "global":
        return scores.mean(), np.maximum(scores.var(ddof=1), TINY)
    # The notebook floors the standard deviation at 1e-10 when it comes to divide.
    return scores.mean(0), np.maximum(scores.var(0), 1e-20)


def _stable(logits: Floats, y: NDArray[np.int64]) -> Floats:
    clipped = np.clip(logits, CLIP, 1 - CLIP)
    own, others = _apart(clipped, y)
    return np.log(own) - np.log(np.maximum(others.sum(-1), CLIP))


def _unstable(logits: Floats, y: NDArray[np.int64]) -> Floats:
    own, _ = _apart(np.clip(logits, CLIP, 1 - CLIP), y)
    return np.log(own) - np.log(1 - own)


def _gap(logits: Floats, y: NDArray[np.int64]) -> Floats:
    own, others = _apart(logits, y)
    return own - others.max(-1)


def _apart(values: Floats, y: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """The true class's values (..., N) and those of the other classes (..., N, C - 1)."""
    true = np.arange(values.shape[-1]) == y[:, None]
    n, n_classes = true.shape
    own = values[..., true]
    return own, values[..., ~true].reshape(*values.shape[:-2], n, n_classes - 1)
