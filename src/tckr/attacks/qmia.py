"""QMIA, the quantile-regression attack: confidence against that expected of an unseen example."""

import numpy as np
from numpy.typing import ArrayLike

from tckr.attacks.arrays import Floats, check_target_scores, finite
from tckr.errors import UserError

FOLDS = 5
MIN_REFERENCE = 10 * FOLDS  # known non-members; fewer are not worth a regression
PENALTIES = np.logspace(-1, 4, 11)  # of the ridge regressions, chosen by leave-one-out


def qmia(
    target_scores: ArrayLike,
    features: ArrayLike,
    reference: ArrayLike,
    seed: int = 0,
) -> Floats:
    """Run the quantile-regression attack of Bertran et al. (NeurIPS 2023, arXiv 2307.03694).

    Needs no shadow models. A regression on known non-members predicts from an example's features
    how confident the target is in it if it was not trained on it; the score is how far above that
    the confidence lies. Of the paper's regressors this is the Gaussian one: it predicts mean and
    log-scale. Ours: both are ridge regressions on standardized features instead of a network, the
    penalty chosen by leave-one-out; queries are averaged.

    No regressor scores an example that it was trained on: each of 5 folds of all N examples is
    scored by a regressor trained on the references in the other four, so that references and the
    rest are treated alike. An auditor may therefore pass the very non-members that the audit counts.

    Args:
        target_scores: logit-scaled confidences phi of the audited model, (N,) or (N, Q).
        features: (N, D), of an image encoder for instance, with the class one-hot beside them.
        reference: bool (N,), examples known to be non-members; at least 50.
        seed: of the folds.

    Returns:
        float64 (N,), larger = more likely a member.

    Raises:
        UserError: NaN scores or features, shapes that do not fit, or too few references.

    Confidence follows from a feature, except that members exceed it:

    >>> random = np.random.default_rng(0)
    >>> features, is_member = random.normal(size=(200, 1)), np.arange(200) < 100
    >>> target_scores = 3 * features[:, 0] + random.normal(size=200) + is_member
    >>> scores = qmia(target_scores, features, ~is_member)
    >>> bool(scores[is_member].mean() > scores[~is_member].mean() + 0.5)
    True
    """
    from sklearn.model_selection import KFold

    phi, x = check_target_scores(target_scores), finite("feature", features)
    is_reference = np.asarray(reference, dtype=bool)
    if x.ndim != 2 or len(x) != len(phi) or is_reference.shape != (len(phi),):
        raise UserError(
            f"Attack arrays do not fit: target scores {phi.shape}, features {x.shape}, reference"
            f" {is_reference.shape}.",
            "give (N,), (N, D) and (N,) of the same examples.",
        )
    if is_reference.sum() < MIN_REFERENCE:
        raise UserError(
            f"{is_reference.sum()} known non-members are too few for a regression.",
            f"name at least {MIN_REFERENCE}.",
        )
    result = np.empty_like(phi)
    for other_folds, fold in KFold(FOLDS, shuffle=True, random_state=seed).split(x):
        train = other_folds[is_reference[other_folds]]
        for query, phi_q in enumerate(phi.T):
            mean, scale = _predict_gaussian(x[train], phi_q[train], x[fold])
            # Quantile of phi under the predicted N(mean, scale^2), on a normal scale.
            result[fold, query] = (phi_q[fold] - mean) / scale
    return result.mean(1)


def _predict_gaussian(features: Floats, phi: Floats, new_features: Floats) -> tuple[Floats, Floats]:
    """Return mean and scale of phi at the new features (M, D); (M,) each.

    The scale is right up to one factor for all examples, which leaves their order alone.
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(features)
    x, new = scaler.transform(features), scaler.transform(new_features)
    mean = RidgeCV(PENALTIES, store_cv_results=True).fit(x, phi)
    # Leave-one-out residuals: in-sample ones shrink with the number of features.
    best_penalty = int(np.argmin(mean.cv_results_.mean(0)))
    residuals = np.sqrt(mean.cv_results_[:, best_penalty])
    log_residuals = np.log(np.maximum(residuals, 1e-3 * residuals.mean() + 1e-12))
    log_scale = RidgeCV(PENALTIES).fit(x, log_residuals).predict(new)
    return mean.predict(new), np.exp(np.clip(log_scale, log_residuals.min(), log_residuals.max()))
