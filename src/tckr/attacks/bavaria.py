"""BaVarIA: the likelihood-ratio attack with a prior on each example's mean and variance."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import digamma, gammaln, polygamma

from tckr.attacks.arrays import SMALLEST_VARIANCE, Floats, checked, moments

# Beyond this a prior is a point: its shape (or its weight on the mean) could as well be infinite.
LARGEST = 1e6


class Prior(NamedTuple):
    """Normal-inverse-gamma: sigma^2 ~ IG(alpha, beta), mean | sigma^2 ~ N(mu, sigma^2 / kappa)."""

    mu: float
    kappa: float
    alpha: float
    beta: float


class StudentT(NamedTuple):
    """Predictive distributions: degrees of freedom (N, Q), location (N, Q), scale (N, Q)."""

    freedom: Floats
    location: Floats
    scale: Floats


def bavaria_t(
    target: ArrayLike,
    shadow: ArrayLike,
    membership: ArrayLike,
    online: bool = True,
) -> Floats:
    """BaVarIA-t, a Student-t LiRA for few shadows (Brännvall, arXiv 2603.11799).

    From the paper: LiRA's two Gaussians get conjugate normal-inverse-gamma priors, so that each
    plug-in density becomes the Student-t posterior predictive, and no switch between a global and a
    per-example variance remains. The update and the predictive are the textbook ones: with n
    scores of mean m and sum of squares Q about it,
    kappa' = kappa + n, mu' = (kappa mu + n m) / kappa', alpha' = alpha + n / 2,
    beta' = beta + Q / 2 + kappa n (m - mu)^2 / (2 kappa'), and the predictive is t with 2 alpha'
    degrees of freedom, location mu' and squared scale beta' (kappa' + 1) / (alpha' kappa').

    Ours, because only the paper's abstract and introduction could be read: the prior's
    hyper-parameters (`fit_prior`: empirical Bayes, a prior each for "in" and "out"), the offline
    score (LiRA's one-sided test under the "out" predictive), and queries (mean of their scores).

    Where all examples vary alike, alpha grows and this is nearly LiRA with a global variance (the
    means are still drawn a little towards mu); with many shadows the scores outweigh the prior and
    it is LiRA with per-example variances.

    Args:
        target: (N,), or (N, Q).
        shadow: (S, N), or (S, N, Q).
        membership: (S, N).
        online: True: log t_in(phi) - log t_out(phi). False: where phi lies in t_out, as the standard
            normal quantile of the same probability (Wallace's approximation, Biometrika 1959, which
            ranks examples of unequal degrees of freedom and does not saturate).

    Returns:
        float64 (N,).

    Raises:
        UserError: NaN scores, shapes that do not fit, or fewer than two scores of a kind everywhere.
    """
    x, scores, inside = checked(target, shadow, membership)
    out = _predictive(scores, ~inside)
    if not online:
        return _normal_quantile(x, out).mean(1)
    return (_log_density(x, _predictive(scores, inside)) - _log_density(x, out)).mean(1)


def fit_prior(count: NDArray[np.int64], mean: Floats, squares: Floats) -> Prior:
    """Empirical-Bayes prior of one kind of score from the moments of all examples.

    alpha and beta: the log variances' mean log beta - digamma(alpha) and variance trigamma(alpha),
    matched after their sampling error is taken off (Smyth 2004, doi 10.2202/1544-6115.1027: stable
    with one degree of freedom an example, unlike moments of the variances themselves).
    mu and kappa: the means' mean, and pooled variance / variance of the means about it.

    Args:
        count: int (N,), scores of each example, at least 1, somewhere 2.
        mean: (N,).
        squares: (N,), sums of squares about the means.
    """
    freedom = np.maximum(count - 1, 1)
    pooled = max(squares.sum() / (count - 1).sum(), SMALLEST_VARIANCE)
    mu = float(mean.mean())
    spread = float(np.mean((mean - mu) ** 2) - pooled * np.mean(1 / count))
    kappa = min(pooled / spread, LARGEST) if spread > 0 else LARGEST

    variance = squares / freedom
    informative = (count > 1) & (variance > SMALLEST_VARIANCE)
    if not informative.any():
        return Prior(mu, float(kappa), LARGEST, LARGEST * pooled)
    half = freedom[informative] / 2
    logs = np.log(variance[informative]) - digamma(half) + np.log(half)
    excess = float(logs.var() - polygamma(1, half).mean())
    alpha = _inverse_trigamma(excess) if excess > 0 else LARGEST
    return Prior(mu, float(kappa), alpha, float(np.exp(logs.mean() + digamma(alpha))))


def _inverse_trigamma(value: float) -> float:
    """The alpha in [0.01, LARGEST] with trigamma(alpha) = value."""

    def gap(log_alpha: float) -> float:
        return float(np.log(polygamma(1, np.exp(log_alpha))) - np.log(value))

    low, high = np.log(0.01), np.log(LARGEST)
    if gap(low) <= 0:
        return 0.01
    return LARGEST if gap(high) >= 0 else float(np.exp(brentq(gap, low, high)))


def _predictive(scores: Floats, chosen: NDArray[np.bool_]) -> StudentT:
    found = moments(scores, chosen, "global")
    priors = [
        fit_prior(found.number[:, 0], mean, squares)
        for mean, squares in zip(found.mean.T, found.squares.T, strict=True)
    ]
    mu, kappa, alpha, beta = np.array(priors).T  # (Q,) each
    n = found.number
    weight = kappa + n
    shape = alpha + n / 2
    rate = beta + found.squares / 2 + kappa * n * (found.mean - mu) ** 2 / (2 * weight)
    scale = np.sqrt(rate * (weight + 1) / (shape * weight))
    return StudentT(2 * shape, (kappa * mu + n * found.mean) / weight, scale)


def _log_density(x: Floats, t: StudentT) -> Floats:
    z = (x - t.location) / t.scale
    constant = gammaln((t.freedom + 1) / 2) - gammaln(t.freedom / 2)
    spread = np.log(t.scale) + np.log(np.pi * t.freedom) / 2
    return constant - spread - (t.freedom + 1) / 2 * np.log1p(z**2 / t.freedom)


def _normal_quantile(x: Floats, t: StudentT) -> Floats:
    z = (x - t.location) / t.scale
    size = np.sqrt(t.freedom * np.log1p(z**2 / t.freedom))
    return np.sign(z) * size * (8 * t.freedom + 1) / (8 * t.freedom + 3)
