"""The quantile-regression attack: what the target would say of this example had it not seen it."""

import numpy as np
from numpy.typing import ArrayLike

from tckr.attacks.arrays import Floats, by_query, finite
from tckr.errors import UserError

FOLDS = 5
FEWEST = 10 * FOLDS
PENALTIES = np.logspace(-1, 4, 11)


def qmia(
    target: ArrayLike,
    features: ArrayLike,
    reference: ArrayLike,
    seed: int = 0,
) -> Floats:
    """Quantile-regression attack of Bertran et al., NeurIPS 2023 (arXiv 2307.03694); no shadows.

    Learns from known non-members how confident the target is in an unseen example, given its
    features, and scores each example by how far above that it lies. Of the paper's regressors this
    is the Gaussian one: mean and log-scale are predicted, so that (phi - mean) / scale is the
    quantile of phi on a normal scale and orders examples as the quantile does. Ours: both are ridge
    regressions on standardised features instead of a network, the penalty chosen by leaving
    one out; queries are averaged.

    No regressor scores an example that it was trained on: each of 5 folds of all N examples is
    scored by a regressor of the references of the other four, so that references and the rest are
    treated alike. An auditor may therefore give the very non-members that the audit counts.

    Args:
        target: (N,), or (N, Q), logit-scaled confidences phi.
        features: (N, D), of an image encoder, say, with the class one-hot beside them.
        reference: bool (N,), examples known to be non-members; at least 50.
        seed: of the folds.

    Returns:
        float64 (N,).

    Raises:
        UserError: NaN scores or features, shapes that do not fit, or too few references.
    """
    from sklearn.model_selection import KFold

    scores, x = by_query(target), finite("feature", features)
    known = np.asarray(reference, dtype=bool)
    if x.ndim != 2 or len(x) != len(scores) or known.shape != (len(scores),):
        raise UserError(
            f"Attack arrays do not fit: target {scores.shape}, features {x.shape}, reference"
            f" {known.shape}.",
            "give (N,), (N, D) and (N,) of the same examples.",
        )
    if known.sum() < FEWEST:
        raise UserError(
            f"{known.sum()} known non-members are too few for a regression.",
            f"name at least {FEWEST}.",
        )
    result = np.empty_like(scores)
    for rest, fold in KFold(FOLDS, shuffle=True, random_state=seed).split(x):
        train = rest[known[rest]]
        for query, phi in enumerate(scores.T):
            mean, scale = _expected(x[train], phi[train], x[fold])
            result[fold, query] = (phi[fold] - mean) / scale
    return result.mean(1)


def _expected(features: Floats, scores: Floats, wanted: Floats) -> tuple[Floats, Floats]:
    """Mean and scale, up to one factor for all, of the scores of `wanted` (M, D); (M,) each."""
    from sklearn.linear_model import RidgeCV
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(features)
    x, new = scaler.transform(features), scaler.transform(wanted)
    mean = RidgeCV(PENALTIES, store_cv_results=True).fit(x, scores)
    # Residuals of leaving one out: in-sample ones shrink with the number of features.
    chosen = int(np.argmin(mean.cv_results_.mean(0)))
    residuals = np.sqrt(mean.cv_results_[:, chosen])
    logs = np.log(np.maximum(residuals, 1e-3 * residuals.mean() + 1e-12))
    log_scale = RidgeCV(PENALTIES).fit(x, logs).predict(new)
    return mean.predict(new), np.exp(np.clip(log_scale, logs.min(), logs.max()))
