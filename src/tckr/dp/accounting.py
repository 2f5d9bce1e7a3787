"""How much privacy mechanisms cost together: exact for Gaussians, by privacy loss distributions for the rest.

Two private sets are neighbours if one image is added to or removed from either. A Gaussian mechanism whose noise is
`noise_multiplier` times the L2 sensitivity of its statistic, run `steps` times, is as private as telling N(0, 1) from
N(mu, 1) is hard, with mu = sqrt(steps) / noise_multiplier; the mu of several mechanisms add up as squares (Dong, Roth
and Su, arXiv 1905.02383). A mu is an (epsilon, delta) for every delta (Balle and Wang, arXiv 1805.06530, theorem 8).
A Gaussian on a Poisson sample has no closed form: its privacy loss distribution (PLD) is composed numerically by
Google's dp-accounting, on a grid whose rounding errs towards more loss (Doroshenko et al., arXiv 2207.04380).

Every rounding here errs to the safe side: mu down, epsilon and noise up.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, reduce
from typing import Any, Literal, Self

from pydantic import Field, model_validator
from scipy.optimize import brentq
from scipy.special import erfcx, log_ndtr, ndtr

from tckr.errors import UserError
from tckr.options import Options

# Relative amount by which a computed mu is lowered and an epsilon raised; more than the solver's own error.
SAFE = 1e-10
# Relative precision of a noise multiplier that is searched for with the PLD.
PRECISION = 1e-4


class Statistic(Options):
    """What is asked of the private images, before its noise is known."""

    mechanism: Literal["gaussian", "discrete_gaussian", "subsampled_gaussian"] = Field(
        description="Gaussian noise on real numbers, integer noise on counts, or Gaussian noise on a Poisson sample"
    )
    sampling_rate: float = Field(
        1.0, gt=0, le=1, description="probability with which an image enters a step"
    )
    steps: int = Field(1, ge=1, description="noisy answers, each with fresh noise")
    sensitivity: float = Field(
        1.0,
        gt=0,
        allow_inf_nan=False,
        description="largest L2 change of the statistic when one image comes or goes",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.mechanism != "subsampled_gaussian" and self.sampling_rate != 1:
            raise ValueError(
                f"{self.mechanism} reads every image: sampling_rate {self.sampling_rate} belongs to subsampled_gaussian"
            )
        if self.mechanism == "discrete_gaussian" and (
            self.cells < 1 or abs(self.sensitivity**2 - self.cells) > 1e-6
        ):
            raise ValueError(
                "discrete_gaussian is for counts, of which one image changes k by 1: sensitivity must be sqrt(k)"
            )
        return self

    @property
    def cells(self) -> int:
        """Counts that one image changes by 1; only of a discrete Gaussian."""
        return round(self.sensitivity**2)


class Mechanism(Statistic):
    """A noisy statistic as the accountant sees it.

    >>> words = Mechanism(mechanism="discrete_gaussian", noise_multiplier=20, sensitivity=10**0.5)
    >>> words.cells, round(words.sigma, 1)
    (10, 63.2)
    """

    noise_multiplier: float = Field(
        ge=0,
        allow_inf_nan=False,
        description="scale of the noise / sensitivity; 0 protects nothing",
    )

    @property
    def sigma(self) -> float:
        """Scale of the noise, in units of the statistic."""
        return self.noise_multiplier * self.sensitivity


def delta_default(n: int) -> float:
    """Return 1 / (n ln n), the delta of `n` private images unless the user states one.

    >>> f"{delta_default(55_000):.3g}"
    '1.67e-06'

    Raises:
        UserError: fewer than 3 images, for which it is no smaller than 1 / n.
    """
    if n < 3:
        raise UserError(f"{n} private images cannot be protected.", "give at least 3 images.")
    return 1 / (n * math.log(n))


def mu(epsilon: float, delta: float) -> float:
    """Return the mu of the Gaussian mechanism that is just (epsilon, delta)-private.

    >>> round(mu(1, 1.67e-6), 3), round(mu(10, 1.67e-6), 3)
    (0.243, 1.879)

    Raises:
        UserError: epsilon is negative or not finite, or delta outside (0, 1).
    """
    _check_budget(epsilon, delta)
    low, high = 1e-12, 1.0
    while delta_of_mu(high, epsilon) < delta:
        high *= 2
    if delta_of_mu(low, epsilon) >= delta:
        raise UserError(
            f"No Gaussian noise reaches epsilon {epsilon:g} at delta {delta:g}.",
            "raise epsilon or delta.",
        )
    root = brentq(lambda m: delta_of_mu(m, epsilon) - delta, low, high, xtol=1e-15, rtol=1e-13)
    return float(root) * (1 - SAFE)


def epsilon_of_mu(mu: float, delta: float) -> float:
    """Return the smallest epsilon at which a Gaussian mechanism with this mu is (epsilon, delta)-private.

    >>> round(epsilon_of_mu(mu(10, 1e-5), 1e-5), 6)
    10.0
    """
    _check_budget(0, delta)
    if mu < 0 or math.isnan(mu):
        raise ValueError(f"mu must not be negative, but is {mu}")
    if math.isinf(mu):
        return math.inf
    if mu == 0 or delta_of_mu(mu, 0) <= delta:
        return 0.0
    # delta <= P[N(0, 1) > epsilon / mu - mu / 2] <= exp(-(epsilon / mu - mu / 2)^2 / 2), solved for epsilon.
    high = mu**2 / 2 + mu * math.sqrt(2 * math.log(1 / delta))
    root = brentq(lambda e: delta_of_mu(mu, e) - delta, 0, high, xtol=1e-15, rtol=1e-13)
    return float(root) * (1 + SAFE / 10)


def delta_of_mu(mu: float, epsilon: float) -> float:
    """Return the smallest delta at which a Gaussian mechanism with this mu > 0 is (epsilon, delta)-private.

    >>> round(delta_of_mu(1, 0), 6)  # 2 Phi(1/2) - 1
    0.382925
    """
    a, b = epsilon / mu - mu / 2, epsilon / mu + mu / 2
    if a < -20:  # erfcx would overflow, and the difference does not cancel
        return float(ndtr(-a) - math.exp(epsilon + log_ndtr(-b)))
    # Phi(-a) - e^epsilon Phi(-b) by Mills ratios, which neither overflow nor cancel for small delta.
    density = math.exp(-(a**2) / 2) / math.sqrt(2 * math.pi)
    mills = erfcx(a / math.sqrt(2)) - erfcx(b / math.sqrt(2))
    return float(density * math.sqrt(math.pi / 2) * mills)


def gaussian_sigma(epsilon: float, delta: float, compositions: int = 1) -> float:
    """Return the noise multiplier with which `compositions` Gaussian mechanisms are together (epsilon, delta)-private.

    It is the standard deviation of the noise of each for L2 sensitivity 1. Exact, not a bound.

    >>> round(gaussian_sigma(1, 1.67e-6, compositions=80), 1)
    36.8

    Raises:
        UserError: epsilon or delta out of range.
        ValueError: fewer than one composition.
    """
    if compositions < 1:
        raise ValueError(f"{compositions} compositions are none")
    return math.sqrt(compositions) / mu(epsilon, delta)


@lru_cache(maxsize=256)
def dp_sgd_noise_multiplier(
    epsilon: float, delta: float, sampling_rate: float, steps: int
) -> float:
    """Return the noise multiplier with which `steps` of DP-SGD are (epsilon, delta)-private.

    Every step adds Gaussian noise to the sum of the clipped gradients of a Poisson sample, into which each image
    enters with probability `sampling_rate`. By PLD, for an image added or removed; rounded up by 0.01 % at most.

    >>> round(dp_sgd_noise_multiplier(10, 1.67e-6, sampling_rate=0.149, steps=200), 2)
    1.37

    Raises:
        UserError: epsilon or delta out of range, or too small for any noise.
        pydantic.ValidationError: the sampling rate outside (0, 1], or no steps.
    """
    target = mu(epsilon, delta)
    if sampling_rate == 1:
        return gaussian_sigma(epsilon, delta, steps)
    sampled = Mechanism(
        mechanism="subsampled_gaussian",
        noise_multiplier=1,
        sampling_rate=sampling_rate,
        steps=steps,
    )

    def excess(log_sigma: float) -> float:
        noisy = sampled.model_copy(update={"noise_multiplier": math.exp(log_sigma)})
        spent = total_epsilon([noisy], delta)
        return min(math.log(max(spent, 1e-12) / epsilon), 50.0) if spent < math.inf else 50.0

    # The central limit theorem of Bu et al. (arXiv 1911.11607) gives the start: mu = p sqrt(T (e^(1/sigma^2) - 1)).
    start = 1 / math.sqrt(math.log1p((target / sampling_rate) ** 2 / steps))
    return math.exp(smallest_safe(excess, math.log(start)))


def smallest_safe(excess: Callable[[float], float], start: float) -> float:
    """Return the smallest x, to PRECISION and on the safe side, at which a falling function is at most 0.

    Args:
        excess: falls with x; finite.
        start: a guess.

    Raises:
        UserError: it stays above 0 however large x becomes.
    """
    low = high = start
    stride = 0.05
    while excess(high) > 0:
        low, high, stride = high, high + stride, 2 * stride
        if high > start + 20:
            raise UserError(
                "No noise is large enough for this budget.",
                "raise epsilon or delta, or plan fewer steps.",
            )
    stride = 0.05
    while low == high or excess(low) <= 0:
        low, high, stride = low - stride, low, 2 * stride
    step = PRECISION / 2
    found = float(brentq(excess, low, high, xtol=step)) + step
    while found < high and excess(found) > 0:
        found += step
    return min(found, high)


def total_epsilon(mechanisms: Sequence[Mechanism], delta: float) -> float:
    """Return the epsilon, at `delta`, of all these mechanisms together, whatever each was told by the ones before.

    >>> teacher = Mechanism(mechanism="gaussian", noise_multiplier=36.92, steps=80)
    >>> round(total_epsilon([teacher], 1.67e-6), 2)
    1.0
    """
    _check_budget(0, delta)
    exact = gaussian_mu(mechanisms)
    if exact is not None:
        return epsilon_of_mu(exact, delta)
    return float(compose(mechanisms).get_epsilon_for_delta(delta)) * (1 + SAFE)


def gaussian_mu(mechanisms: Sequence[Mechanism]) -> float | None:
    """Return the exact mu of mechanisms that are all Gaussian, without sampling; None if one is not.

    >>> gaussian_mu([Mechanism(mechanism="gaussian", noise_multiplier=5, steps=25)] * 4)
    2.0
    """
    if any(mechanism.noise_multiplier == 0 for mechanism in mechanisms):
        return math.inf
    if any(not _is_gaussian(mechanism) for mechanism in mechanisms):
        return None
    return math.sqrt(sum(m.steps / m.noise_multiplier**2 for m in mechanisms))


def compose(mechanisms: Sequence[Mechanism]) -> Any:
    """Return the privacy loss distribution of mechanisms together, a `PrivacyLossDistribution` of dp-accounting.

    Args:
        mechanisms: at least one, all with some noise.
    """
    from dp_accounting.pld import privacy_loss_distribution as pld

    grid = {"value_discretization_interval": _interval(mechanisms)}
    gaussians = [mechanism for mechanism in mechanisms if _is_gaussian(mechanism)]
    parts = []
    if gaussians:
        parts.append(pld.from_gaussian_mechanism(1 / (gaussian_mu(gaussians) or 1), **grid))
    for mechanism in mechanisms:
        if mechanism.mechanism == "discrete_gaussian":
            # One image changes `cells` counts by 1 each, under independent noise: as many mechanisms of sensitivity 1.
            one = pld.from_discrete_gaussian_mechanism(
                mechanism.sigma, 1, use_connect_dots=True, **grid
            )
            parts.append(one.self_compose(mechanism.cells * mechanism.steps))
        elif not _is_gaussian(mechanism):
            one = pld.from_gaussian_mechanism(
                mechanism.noise_multiplier, sampling_prob=mechanism.sampling_rate, **grid
            )
            parts.append(one.self_compose(mechanism.steps))
    return reduce(lambda first, second: first.compose(second), parts)


def approximate_mu(mechanism: Mechanism) -> float:
    """Return the mu of a mechanism: exact for Gaussians, by the central limit theorem for samples. Only for planning."""
    exponent = min(1 / mechanism.noise_multiplier**2, 500.0)
    if mechanism.sampling_rate == 1:
        return math.sqrt(mechanism.steps / mechanism.noise_multiplier**2)
    return mechanism.sampling_rate * math.sqrt(mechanism.steps * math.expm1(exponent))


def _is_gaussian(mechanism: Mechanism) -> bool:
    return mechanism.mechanism != "discrete_gaussian" and mechanism.sampling_rate == 1


def _interval(mechanisms: Sequence[Mechanism]) -> float:
    """Choose the grid of privacy losses: finer for smaller losses, so that epsilon is right to some 0.1 %."""
    whole = math.sqrt(sum(approximate_mu(mechanism) ** 2 for mechanism in mechanisms))
    return min(max(10 ** math.floor(math.log10(whole / 1000)), 1e-6), 1e-3)


def _check_budget(epsilon: float, delta: float) -> None:
    if not (math.isfinite(epsilon) and epsilon >= 0):
        raise UserError(
            f"epsilon must be a finite number of at least 0, but is {epsilon}.",
            "set epsilon, e.g. to 1.",
        )
    if not 0 < delta < 1:
        raise UserError(
            f"delta must lie between 0 and 1, but is {delta}.",
            "leave it out: it defaults to 1 / (N ln N).",
        )
