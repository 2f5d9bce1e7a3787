"""Share a total (epsilon, delta) out among mechanisms: shares are of mu^2, which is what adds up."""

import math
from collections.abc import Mapping, Sequence

from pydantic import Field

from tckr.dp.accounting import (
    Mechanism,
    Statistic,
    approximate_mu,
    dp_sgd_noise_multiplier,
    epsilon_of_mu,
    mu,
    smallest_safe,
    total_epsilon,
)
from tckr.errors import UserError


class Plan(Statistic):
    """A mechanism whose noise follows from its share of the budget."""

    share: float = Field(
        ge=0, allow_inf_nan=False, description="of mu^2, relative to the other plans"
    )
    name: str = Field(min_length=1)
    why: str = Field(min_length=1, description="why one image cannot change the statistic by more")
    code: str = Field(min_length=1, description="module:function and hash of its file")


def split(total_epsilon: float, delta: float, shares: Mapping[str, float]) -> dict[str, float]:
    """Return the mu of each mechanism: the square of the total's, in proportion to the shares.

    >>> {name: round(mu, 3) for name, mu in split(10, 1.67e-6, {"words": 1, "teacher": 3}).items()}
    {'words': 0.94, 'teacher': 1.627}

    Raises:
        UserError: a share is negative or not finite, all are 0, or the budget is out of range.
    """
    for name, share in shares.items():
        if not (math.isfinite(share) and share >= 0):
            raise UserError(f"The share of '{name}' is {share}.", "give it a share of at least 0.")
    whole = sum(shares.values())
    if whole == 0:
        raise UserError("No mechanism has a share of the budget.", "give one a share above 0.")
    total = mu(total_epsilon, delta)
    return {name: total * math.sqrt(share / whole) for name, share in shares.items()}


def calibrate(
    epsilon: float,
    delta: float,
    plans: Sequence[Plan],
    fixed: Sequence[Mechanism] = (),
) -> dict[str, float]:
    """Return the noise multiplier of each plan, with which they and what is fixed are just (epsilon, delta)-private.

    Each gets the noise of its own mu; then all are made louder or quieter by one common factor until the composition
    of everything reaches epsilon, from below. For Gaussians alone the factor is 1.

    Args:
        epsilon: of everything together.
        delta: of everything together.
        plans: each with a share above 0.
        fixed: mechanisms whose noise stands already.

    Raises:
        UserError: what is fixed leaves nothing, or the budget is out of range.
    """
    mus = split(epsilon, delta, {plan.name: plan.share for plan in plans})
    spent = mu(total_epsilon(fixed, delta), delta) if fixed else 0.0
    left = 1 - (spent / mu(epsilon, delta)) ** 2
    if left <= 0:
        raise UserError("The budget is spent.", "raise epsilon, or leave a mechanism out.")
    alone = {
        plan.name: _multiplier(plan, mus[plan.name] * math.sqrt(left), delta) for plan in plans
    }

    def excess(log_factor: float) -> float:
        noisy = [_mechanism(plan, alone[plan.name] * math.exp(log_factor)) for plan in plans]
        together = total_epsilon([*fixed, *noisy], delta)
        return min(together / epsilon - 1, 50.0)

    # The safe side of closed forms is already kept; a factor of exactly 1 must not fail for the last digit.
    factor = 1.0 if -1e-6 <= excess(0.0) <= 0 else math.exp(smallest_safe(excess, 0.0))
    return {name: multiplier * factor for name, multiplier in alone.items()}


def check_signal(mechanism: Mechanism, n: int, dimension: int, delta: float) -> None:
    """Check that the noise of a sum of clipped vectors leaves something of it, before any private image is read.

    Over all steps the sum can grow to steps * sampling_rate * n clipped norms if all images agree, the noise of so
    many directions to noise_multiplier * sqrt(steps * dimension): the best case must be larger than the noise.

    Args:
        mechanism: Gaussian, with or without sampling.
        n: private images.
        dimension: numbers in the vector.
        delta: of the ledger.

    Raises:
        UserError: it is not; says which n, or which epsilon of this mechanism, would do.
    """
    signal = mechanism.steps * mechanism.sampling_rate * n
    noise = mechanism.noise_multiplier * math.sqrt(mechanism.steps * dimension)
    if noise < signal:
        return
    # n * mu >= sqrt(dimension), whether steps are many or few.
    needed = approximate_mu(mechanism) * noise / signal
    raise UserError(
        f"More noise than signal: {n:,} images give a sum of {signal:,.0f} at best, the noise on its {dimension:,}"
        f" numbers is {noise:,.0f}.",
        f"give at least {math.ceil(n * noise / signal):,} images, or raise epsilon until this mechanism alone has"
        f" {epsilon_of_mu(needed, delta):.2g}.",
    )


def _multiplier(plan: Plan, mu: float, delta: float) -> float:
    if plan.sampling_rate < 1:
        epsilon = epsilon_of_mu(mu, delta)
        return dp_sgd_noise_multiplier(epsilon, delta, plan.sampling_rate, plan.steps)
    return math.sqrt(plan.steps) / mu


def _mechanism(plan: Plan, noise_multiplier: float) -> Mechanism:
    asked = plan.model_dump(include=set(Statistic.model_fields))
    return Mechanism(noise_multiplier=noise_multiplier, **asked)
