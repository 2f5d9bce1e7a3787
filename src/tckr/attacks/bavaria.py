"""BaVarIA: the likelihood-ratio attack with a prior on each example's mean, shift and variance."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tckr.attacks.arrays import SMALLEST_VARIANCE, Floats, Moments, check_scores, moments

# Beyond this a prior is a point: its shape (or its weight on the mean) might as well be infinite.
LARGEST = 1e6
# Groups of equally many examples, by difficulty, whose mean shift is taken for that of their members.
GROUPS, FEWEST_OF_A_GROUP = 20, 50


class Prior(NamedTuple):
    """Of one query: sigma^2 ~ IG(alpha, beta), mean | sigma^2 ~ N(mu, sigma^2 / kappa), and of the shift by training.

    Attributes:
        mu: mean of the "out" scores of all examples.
        kappa: how many scores the prior on an example's mean is worth.
        alpha: shape of the variance.
        beta: scale of the variance.
        shift: (N,), the mean shift of examples as difficult as each.
        kappa_shift: how many scores the prior on an example's shift is worth.
        ratio: variance of an "in" score over that of an "out" score, the same for all examples.
    """

    mu: float
    kappa: float
    alpha: float
    beta: float
    shift: Floats
    kappa_shift: float
    ratio: float


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

    Ours, because only the paper's abstract and introduction could be read: what the priors are on,
    and their hyper-parameters (`fit_prior`: empirical Bayes), the offline score (LiRA's one-sided
    test under the "out" predictive), and queries (mean of their scores). The "out" scores of an
    example have a mean a, its "in" scores a + d. Examples differ in a by far more than training
    shifts them, so that a prior on either mean alone would lend nothing to their difference, which
    with few shadows is mostly noise: the prior is on the shift d itself, about the mean shift of
    examples that are as difficult.

    If all examples vary alike, alpha grows and this is nearly LiRA with a global variance, the
    shifts shrunk; with many shadows the scores outweigh the prior and it is LiRA with per-example
    variances.

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
    [4.71, -1.65]
    """
    phi, shadow_phi, is_in = check_scores(target_scores, shadow_scores, membership)
    out = moments(shadow_phi, ~is_in, "global")
    if not online:
        # Where phi lies in t_out, as the standard normal quantile of the same probability.
        return _normal_quantile(phi, _predictive(out)).mean(1)
    inside, outside = _predictives(out, moments(shadow_phi, is_in, "global"))
    # Log-ratio of predictives: log t_in(phi) - log t_out(phi).
    return (_log_density(phi, inside) - _log_density(phi, outside)).mean(1)


def fit_prior(out: Moments, inside: Moments | None = None) -> Prior:
    """Fit the priors of one query to the moments of all examples; empirical Bayes by moments.

    alpha and beta are matched to the log variances, after their sampling error is subtracted (Smyth 2004, doi
    10.2202/1544-6115.1027: stable with one degree of freedom per example, unlike moments of the variances themselves).
    kappa and kappa_shift are the pooled variance over that of the means, or of the shifts, without their sampling error.

    Args:
        out: of the "out" scores, (N,) each; counts of at least 1, some of at least 2.
        inside: of the "in" scores; None fits no shift.

    >>> prior = fit_prior(Moments(np.array([2, 2]), np.array([0.0, 4.0]), np.array([1.0, 1.0])))
    >>> prior.mu, round(prior.kappa, 2)
    (2.0, 0.29)
    """
    pooled, ratio = _pooled(out), 1.0
    mu = float(out.mean.mean())
    kappa = _weight(pooled, out.mean - mu, 1 / out.n)
    freedom, squares = out.n - 1, out.sum_of_squares
    shift, kappa_shift = np.zeros_like(out.mean), LARGEST
    if inside is not None:
        ratio = _pooled(inside) / pooled
        freedom, squares = freedom + inside.n - 1, squares + inside.sum_of_squares / ratio
        difference, error = inside.mean - out.mean, 1 / out.n + ratio / inside.n
        # The mean of all scores by their precision: its error is independent of that of the difference.
        difficulty = (out.n * out.mean + inside.n / ratio * inside.mean) / (
            out.n + inside.n / ratio
        )
        shift = _by_difficulty(difference, difficulty)
        kappa_shift = _weight(pooled, difference - shift, error)
    alpha, beta = _fit_variance(freedom, squares, pooled)
    return Prior(mu, kappa, alpha, beta, shift, kappa_shift, ratio)


def _pooled(of_side: Moments) -> float:
    return max(float(of_side.sum_of_squares.sum() / (of_side.n - 1).sum()), SMALLEST_VARIANCE)


def _weight(pooled: float, deviations: Floats, error: Floats) -> float:
    """Return how many scores a prior is worth about which examples deviate so, at sampling errors in units of `pooled`."""
    spread = float(np.mean(deviations**2) - pooled * np.mean(error))
    return float(min(pooled / spread, LARGEST)) if spread > 0 else LARGEST


def _by_difficulty(difference: Floats, difficulty: Floats) -> Floats:
    """Return the mean difference of the examples that are as difficult as each, (N,): linear between means of groups."""
    groups = max(1, min(GROUPS, len(difference) // FEWEST_OF_A_GROUP))
    parts = np.array_split(np.argsort(difficulty, kind="stable"), groups)
    centres, means = ([float(x[part].mean()) for part in parts] for x in (difficulty, difference))
    return np.interp(difficulty, centres, means)


def _fit_variance(
    freedom: NDArray[np.int64], sum_of_squares: Floats, pooled: float
) -> tuple[float, float]:
    """Return alpha and beta of the inverse gamma of the examples' variances."""
    from scipy.special import digamma, polygamma

    variance = sum_of_squares / np.maximum(freedom, 1)
    informative = (freedom > 0) & (variance > SMALLEST_VARIANCE)
    if not informative.any():
        return LARGEST, LARGEST * pooled
    half = freedom[informative] / 2
    # Smyth 2004, section 6.2: e = log s^2 - digamma(d / 2) + log(d / 2) has mean
    # log beta - digamma(alpha) and variance trigamma(alpha) + trigamma(d / 2), d = degrees of freedom.
    logs = np.log(variance[informative]) - digamma(half) + np.log(half)
    excess = float(logs.var() - polygamma(1, half).mean())
    alpha = _inverse_trigamma(excess) if excess > 0 else LARGEST
    return alpha, float(np.exp(logs.mean() + digamma(alpha)))


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


def _queries(of_side: Moments) -> list[Moments]:
    """Return the moments of each query, (N,) each."""
    pairs = zip(of_side.mean.T, of_side.sum_of_squares.T, strict=True)
    return [Moments(of_side.n[:, 0], *of_query) for of_query in pairs]


def _predictive(out: Moments) -> StudentT:
    """Return the posterior predictive of each example's "out" scores, by these alone."""
    mu, kappa, alpha, beta = np.array([fit_prior(query)[:4] for query in _queries(out)]).T  # (Q,)
    # Conjugate update by n scores of mean m and sum of squares SS about it (Murphy 2007, "Conjugate
    # Bayesian analysis of the Gaussian distribution", section 6): kappa' = kappa + n,
    # mu' = (kappa mu + n m) / kappa', alpha' = alpha + n / 2,
    # beta' = beta + SS / 2 + kappa n (m - mu)^2 / (2 kappa').
    n, mean = out.n, out.mean
    kappa_n, alpha_n = kappa + n, alpha + n / 2
    beta_n = beta + out.sum_of_squares / 2 + kappa * n * (mean - mu) ** 2 / (2 * kappa_n)
    # Predictive: t with 2 alpha' degrees of freedom, location mu', squared scale
    # beta' (kappa' + 1) / (alpha' kappa').
    scale = np.sqrt(beta_n * (kappa_n + 1) / (alpha_n * kappa_n))
    return StudentT(2 * alpha_n, (kappa * mu + n * mean) / kappa_n, scale)


def _predictives(out: Moments, inside: Moments) -> tuple[StudentT, StudentT]:
    """Return the posterior predictives of each example's "in" and "out" scores, by the prior on mean and shift."""
    pairs = list(zip(_queries(out), _queries(inside), strict=True))
    priors = [fit_prior(*pair) for pair in pairs]
    mu, kappa, alpha, beta, kappa_d, ratio = (
        np.array([getattr(prior, name) for prior in priors])
        for name in ("mu", "kappa", "alpha", "beta", "kappa_shift", "ratio")
    )
    expected = np.stack([prior.shift for prior in priors], axis=1)
    # Conjugate Bayesian regression (Murphy 2007, section 7, with weights): a score is a, or with variance r sigma^2 a + d,
    # where sigma^2 V^-1 is the precision of (a, d) after n scores "out" and m / r "in":
    # V^-1 = [[kappa + n + m / r, m / r], [m / r, kappa_d + m / r]].
    n, m = out.n, inside.n / ratio
    aa, ad, dd = kappa + n + m, m, kappa_d + m
    right_a = kappa * mu + n * out.mean + m * inside.mean
    right_d = kappa_d * expected + m * inside.mean
    determinant = aa * dd - ad**2
    a = (dd * right_a - ad * right_d) / determinant
    d = (aa * right_d - ad * right_a) / determinant
    # alpha' = alpha + (n + m r) / 2; beta' = beta + half of the weighted squares about the posterior mean, the prior's too.
    alpha_n = alpha + (n + inside.n) / 2
    squares = out.sum_of_squares + inside.sum_of_squares / ratio
    squares = squares + n * (out.mean - a) ** 2 + m * (inside.mean - a - d) ** 2
    squares = squares + kappa * (a - mu) ** 2 + kappa_d * (d - expected) ** 2
    variance = (beta + squares / 2) / alpha_n
    # Predictive: t with 2 alpha' degrees of freedom about a, or a + d, of squared scale beta' / alpha' times 1 + V_aa, or
    # r + V_aa + 2 V_ad + V_dd.
    v_aa, v_ad, v_dd = dd / determinant, -ad / determinant, aa / determinant
    return (
        StudentT(2 * alpha_n, a + d, np.sqrt(variance * (ratio + v_aa + 2 * v_ad + v_dd))),
        StudentT(2 * alpha_n, a, np.sqrt(variance * (1 + v_aa))),
    )


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
