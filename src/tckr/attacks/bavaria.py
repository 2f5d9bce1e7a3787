"""BaVarIA: the likelihood-ratio attack with a prior on each example's mean and variance."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tckr.attacks.arrays import SMALLEST_VARIANCE, Floats, check_scores, moments

# Beyond this a prior is a point: its shape (or its weight on the mean) might as well be infinite.
LARGEST = 1e6


class Prior(NamedTuple):
    """Normal-inverse-gamma: sigma^2 ~ IG(alpha, beta), mean | sigma^2 ~ N(mu, sigma^2 / kappa)."""

    mu: float
    kappa: float
    alpha: float
    beta: float


class StudentT(NamedTuple):
    """Posterior predictive distribution of each example and query; (N, Q) each."""

    degrees_of_freedom: Floats
    location: Floats
    scale: Floats


def bavaria_t(
    target_scores: ArrayLike,
    shadow_scores: ArrayLike,
    membership: ArrayLike,
    online: bool = True,
) -> Floats:
    """Run BaVarIA-t, a Student-t LiRA for few shadows (Brännvall, arXiv 2603.11799).

    From the paper: LiRA's two Gaussians get conjugate normal-inverse-gamma priors, so that each
    plug-in density becomes the Student-t posterior predictive, and no choice between a global and a
    per-example variance remains. The conjugate update and the predictive are the textbook ones.

    Ours, because only the paper's abstract and introduction could be read: the prior's
    hyper-parameters (`fit_prior`: empirical Bayes, separate priors for "in" and "out"), the offline
    score (LiRA's one-sided test under the "out" predictive), and queries (mean of their scores).

    If all examples vary alike, alpha grows and this is nearly LiRA with a global variance (the
    means are still shrunk a little towards mu); with many shadows the scores outweigh the prior and
    it is LiRA with per-example variances.

    Args:
        target_scores: logit-scaled confidences phi of the audited model, (N,) or (N, Q).
        shadow_scores: those of the shadows, (S, N) or (S, N, Q).
        membership: bool (S, N), which examples each shadow was trained on.
        online: True: log-ratio of the "in" and the "out" predictive. False: one-sided test under
            the "out" predictive; shadows that contain the example are not used.

    Returns:
        float64 (N,), larger = more likely a member.

    Raises:
        UserError: NaN scores, shapes that do not fit, or fewer than two scores of a kind everywhere.

    The arrays of `lira`'s example; with so few shadows the prior makes the scores milder:

    >>> target_scores = [3.0, 0.0]
    >>> shadow_scores = [[0.0, 1.0], [2.0, 0.0], [1.0, -1.0], [4.0, 2.0]]
    >>> membership = [[False, True], [True, False], [False, False], [True, True]]
    >>> bavaria_t(target_scores, shadow_scores, membership).round(2).tolist()
    [2.1, -1.06]
    """
    phi, shadow_phi, is_in = check_scores(target_scores, shadow_scores, membership)
    out = _predictive(shadow_phi, ~is_in)
    if not online:
        # Where phi lies in t_out, as the standard normal quantile of the same probability.
        return _normal_quantile(phi, out).mean(1)
    # Log-ratio of predictives: log t_in(phi) - log t_out(phi).
    return (_log_density(phi, _predictive(shadow_phi, is_in)) - _log_density(phi, out)).mean(1)


def fit_prior(count: NDArray[np.int64], mean: Floats, sum_of_squares: Floats) -> Prior:
    """Fit the prior of one kind of score, "in" or "out", to the moments of all examples.

    Empirical Bayes by moments. alpha and beta are matched to the log variances, after their
    sampling error is subtracted (Smyth 2004, doi 10.2202/1544-6115.1027: stable with one degree of
    freedom per example, unlike moments of the variances themselves).

    Args:
        count: int (N,), scores of each example; each at least 1, some at least 2.
        mean: (N,).
        sum_of_squares: (N,), about the means.

    >>> prior = fit_prior(np.array([2, 2]), np.array([0.0, 4.0]), np.array([1.0, 1.0]))
    >>> prior.mu, round(prior.kappa, 2)
    (2.0, 0.29)
    """
    from scipy.special import digamma, polygamma

    freedom = np.maximum(count - 1, 1)
    pooled = max(sum_of_squares.sum() / (count - 1).sum(), SMALLEST_VARIANCE)
    mu = float(mean.mean())
    # kappa = pooled variance / variance of the means about mu, the latter without its sampling error.
    spread = float(np.mean((mean - mu) ** 2) - pooled * np.mean(1 / count))
    kappa = min(pooled / spread, LARGEST) if spread > 0 else LARGEST

    variance = sum_of_squares / freedom
    informative = (count > 1) & (variance > SMALLEST_VARIANCE)
    if not informative.any():
        return Prior(mu, float(kappa), LARGEST, LARGEST * pooled)
    half = freedom[informative] / 2
    # Smyth 2004, section 6.2: e = log s^2 - digamma(d / 2) + log(d / 2) has mean
    # log beta - digamma(alpha) and variance trigamma(alpha) + trigamma(d / 2), d = degrees of freedom.
    logs = np.log(variance[informative]) - digamma(half) + np.log(half)
    excess = float(logs.var() - polygamma(1, half).mean())
    alpha = _inverse_trigamma(excess) if excess > 0 else LARGEST
    return Prior(mu, float(kappa), alpha, float(np.exp(logs.mean() + digamma(alpha))))


def _inverse_trigamma(value: float) -> float:
    """Return the alpha in [0.01, LARGEST] with trigamma(alpha) = value."""
    from scipy.optimize import brentq
    from scipy.special import polygamma

    def gap(log_alpha: float) -> float:
        return float(np.log(polygamma(1, np.exp(log_alpha))) - np.log(value))

    low, high = np.log(0.01), np.log(LARGEST)
    if gap(low) <= 0:
        return 0.01
    return LARGEST if gap(high) >= 0 else float(np.exp(brentq(gap, low, high)))


def _predictive(shadow_phi: Floats, selected: NDArray[np.bool_]) -> StudentT:
    """Return the posterior predictive of each example's selected scores."""
    count, mean, sum_of_squares = moments(shadow_phi, selected, "global")
    priors = [
        fit_prior(count[:, 0], *of_query) for of_query in zip(mean.T, sum_of_squares.T, strict=True)
    ]
    mu, kappa, alpha, beta = np.array(priors).T  # (Q,) each
    # Conjugate update by n scores of mean m and sum of squares SS about it (Murphy 2007, "Conjugate
    # Bayesian analysis of the Gaussian distribution", section 6): kappa' = kappa + n,
    # mu' = (kappa mu + n m) / kappa', alpha' = alpha + n / 2,
    # beta' = beta + SS / 2 + kappa n (m - mu)^2 / (2 kappa').
    kappa_n = kappa + count
    alpha_n = alpha + count / 2
    beta_n = beta + sum_of_squares / 2 + kappa * count * (mean - mu) ** 2 / (2 * kappa_n)
    # Predictive: t with 2 alpha' degrees of freedom, location mu', squared scale
    # beta' (kappa' + 1) / (alpha' kappa').
    scale = np.sqrt(beta_n * (kappa_n + 1) / (alpha_n * kappa_n))
    return StudentT(2 * alpha_n, (kappa * mu + count * mean) / kappa_n, scale)


def _log_density(x: Floats, t: StudentT) -> Floats:
    from scipy.special import gammaln

    z = (x - t.location) / t.scale
    constant = gammaln((t.degrees_of_freedom + 1) / 2) - gammaln(t.degrees_of_freedom / 2)
    spread = np.log(t.scale) + np.log(np.pi * t.degrees_of_freedom) / 2
    return (
        constant - spread - (t.degrees_of_freedom + 1) / 2 * np.log1p(z**2 / t.degrees_of_freedom)
    )


def _normal_quantile(x: Floats, t: StudentT) -> Floats:
    """Return the normal quantile of the probability that t gives to values up to x.

    It ranks examples of unequal degrees of freedom, and does not saturate far from the location.
    """
    z = (x - t.location) / t.scale
    # Wallace (Biometrika 1959): sqrt(d log(1 + z^2 / d)) (8 d + 1) / (8 d + 3), with the sign of z.
    size = np.sqrt(t.degrees_of_freedom * np.log1p(z**2 / t.degrees_of_freedom))
    return np.sign(z) * size * (8 * t.degrees_of_freedom + 1) / (8 * t.degrees_of_freedom + 3)
