"""One attacker who holds several things: the attacks on each, fused by a model that was learnt on the shadows.

The scores of a shadow's things are known together with who is in it, so that how much each of them says is learnt there, and
used on the target, whose membership nobody reads.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tckr.attacks.arrays import Floats, finite
from tckr.errors import UserError

FOLDS = 4  # of the shadows: three learn, one is scored
MOST_ROWS = 100_000  # scores that a regression of a few coefficients is learnt from


class Fused(NamedTuple):
    """Scores of the joint attacker.

    Attributes:
        scores: float64 (N,) of the target, larger = more likely a member.
        on_shadows: float64 (S, N), every shadow scored by what was learnt on other shadows, that choice included.
        weights: float64 (K,), of the normal scores of each thing; one thing alone has weight 1; all 0: nothing was found.
    """

    scores: Floats
    on_shadows: Floats
    weights: Floats


def fuse(target_scores: ArrayLike, shadow_scores: ArrayLike, membership: ArrayLike) -> Fused:
    """Fuse K attacks by the logistic regression of membership on their scores, learnt on the shadows.

    Scores enter as normal scores (the ranks of each attack on each model, through the normal quantile function), in which the
    log likelihood ratio of two normal populations of one spread is linear: for independent things their squared distances d'
    add up, and logistic regression finds that sum.

    The fusion is used if it ranks better on the shadows, each scored by a model of others, than every single attack does; else
    the best of these is; and where none ranks better than chance there, all scores are 0. So on the shadows it is nowhere below
    chance, nor below one of the things; on the target only by as much as that differs from them by chance.

    Args:
        target_scores: (N, K), of K attacks on the target's things.
        shadow_scores: (S, N, K), of the same attacks on those of each shadow, by the other shadows; S of at least 4.
        membership: bool (S, N), who is in each shadow.

    Raises:
        UserError: NaN, shapes that do not fit, or a shadow without members or non-members.

    >>> random = np.random.default_rng(0)
    >>> inside = random.random((8, 1000)) < 0.5
    >>> shadows = random.normal(size=(8, 1000, 3)) + inside[..., None] * [0.5, 0.5, 0.0]
    >>> target = random.normal(size=(1000, 3))
    >>> fuse(target, shadows, inside).weights.round(1).tolist()
    [0.5, 0.5, 0.0]
    """
    target, shadow = finite("target", target_scores), finite("shadow", shadow_scores)
    inside = np.asarray(membership, dtype=bool)
    fit = shadow.ndim == 3 and shadow.shape[1:] == target.shape and inside.shape == shadow.shape[:2]
    if not fit or len(shadow) < FOLDS:
        raise UserError(
            f"Scores of a target {target.shape}, of shadows {shadow.shape} and membership {inside.shape} do not fit.",
            "give (N, K), (S, N, K) and (S, N) of the same examples and attacks, and four shadows at least.",
        )
    if inside.all(1).any() or (~inside).all(1).any():
        raise UserError("A shadow holds all examples, or none.", "draw half of them for each.")
    normal = np.stack([_normal_scores(one) for one in shadow])
    weights = _learnt(normal, inside)
    on_shadows = np.empty(inside.shape)
    for others, fold in _folds(len(normal)):
        on_shadows[fold] = normal[fold] @ _learnt(normal[others], inside[others])
    return Fused(_normal_scores(target) @ weights, on_shadows, weights)


def _learnt(normal: Floats, inside: NDArray[np.bool_]) -> Floats:
    """Return the weights (K,) of the fusion, of the best single attack, or 0, whichever ranks these shadows best."""
    crossed = np.empty(inside.shape)
    for others, fold in _folds(len(normal)):
        crossed[fold] = normal[fold] @ _regression(normal[others], inside[others])
    singles = [_area(normal[..., k], inside) for k in range(normal.shape[2])]
    best = int(np.argmax(singles))
    if _area(crossed, inside) > max(0.5, singles[best]):
        return _regression(normal, inside)
    weights = np.zeros(normal.shape[2])
    weights[best] = float(singles[best] > 0.5)
    return weights


def _folds(count: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return the shadows that learn and those that are scored, for each fold."""
    every = np.arange(count)
    return [
        (every[every % FOLDS != k], every[every % FOLDS == k]) for k in range(min(FOLDS, count))
    ]


def _normal_scores(scores: Floats) -> Floats:
    """Return van der Waerden's normal scores of each column of (N, K); equal scores get equal ones."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    return np.asarray(ndtri(rankdata(scores, axis=0) / (len(scores) + 1)))


def _regression(normal: Floats, inside: NDArray[np.bool_]) -> Floats:
    """Return the coefficients (K,) of the logistic regression of membership (S, N) on scores (S, N, K)."""
    from sklearn.linear_model import LogisticRegression

    rows, labels = normal.reshape(-1, normal.shape[2]), inside.ravel()
    if len(rows) > MOST_ROWS:
        drawn = np.random.default_rng(0).permutation(len(rows))[:MOST_ROWS]
        rows, labels = rows[drawn], labels[drawn]
    return np.asarray(LogisticRegression().fit(rows, labels).coef_[0], dtype=np.float64)


def _area(scores: Floats, inside: NDArray[np.bool_]) -> float:
    """Return the mean AUC of the shadows, from scores (S, N)."""
    from scipy.stats import rankdata

    ranks = rankdata(scores, axis=1)
    n_in, n_out = inside.sum(1), (~inside).sum(1)
    # Mann and Whitney (1947): U = the members' ranks, summed, less what they are at least.
    return float(np.mean(((ranks * inside).sum(1) - n_in * (n_in + 1) / 2) / (n_in * n_out)))
