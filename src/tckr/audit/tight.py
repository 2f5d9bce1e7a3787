"""A tight audit: the mu that a canary shows of a mechanism, from below, beside the one that its ledger proves, from above.

The mechanism answers again and again, with the canary and without it; the attacker knows everything but noise and samples, and
scores each answer by its log-likelihood ratio, the most powerful test (Neyman and Pearson). What he tells apart bounds mu from
below at a stated confidence (Nasr et al. 2023, arXiv 2302.07956). With the worst canary (`tckr.audit.canaries`) the bound comes
near what is proven, so that a mechanism with less noise than it is charged for comes above it: the audit contradicts the ledger.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from tckr.dp.accounting import Mechanism
from tckr.dp.trade_off import trade_off
from tckr.metrics import separation

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MuEstimate:
    """What a test shows of mu.

    Attributes:
        value: lower bound of mu, >= 0.
        tpr: lower bound of the rate at which the test finds what it is for.
        fpr: upper bound of the rate at which it is wrong; both bounds hold together.
        confidence: of the three, in (0, 1).
        repetitions: answers that were counted; as many chose the cut.
    """

    value: float
    tpr: float
    fpr: float
    confidence: float
    repetitions: int


@dataclass(frozen=True)
class Tightness:
    """What a canary showed of some mechanisms, and what their ledger proves.

    Attributes:
        measured: lower bound.
        proven: mu of the Gaussian mechanism whose trade-off curve has, at `measured.fpr`, the TPR of the proven one; for
            Gaussian mechanisms it is their mu, whatever the FPR. Infinite where the curve allows every TPR.
        contradicts: whether the test finds more than is proven: ledger or code is wrong, at the confidence of `measured`.
    """

    measured: MuEstimate
    proven: float
    contradicts: bool


@dataclass(frozen=True)
class Scores:
    """Scores of a mechanism's answers, larger = more likely with the canary; each of an independent run.

    Attributes:
        present: float64 (R,), of runs with the canary.
        absent: float64 (R',), of runs without.
    """

    present: Floats
    absent: Floats

    def __add__(self, other: "Scores") -> "Scores":
        """Return the scores of two independent mechanisms together: log-likelihood ratios add up."""
        return Scores(self.present + other.present, self.absent + other.absent)


def empirical_mu(
    with_canary: ArrayLike, without: ArrayLike, confidence: float = 0.95, seed: int = 0
) -> MuEstimate:
    """Return a lower bound of mu: no mechanism with a smaller one can be told apart so well.

    One half of the scores chooses the cut, on the other false-positive and false-negative rate are bounded (Clopper and
    Pearson), each at half the error. A mu-private mechanism has Phi^-1(TPR) <= Phi^-1(FPR) + mu for every test (Dong, Roth
    and Su, arXiv 1905.02383, equation 6), hence mu >= Phi^-1(TPR) - Phi^-1(FPR) (Nasr et al., arXiv 2302.07956, section 4).

    Args:
        with_canary: (R,), scores of independent runs with the canary; larger need not mean present.
        without: (R',), of runs without it.
        confidence: of the bound.
        seed: of the halves.

    Raises:
        UserError: NaN scores, or fewer than 2 of either.

    >>> random = np.random.default_rng(0)
    >>> found = empirical_mu(random.normal(1, 1, 100_000), random.normal(0, 1, 100_000))
    >>> 0.95 < found.value < 1.0
    True
    """
    present, absent = np.asarray(with_canary, np.float64), np.asarray(without, np.float64)
    found = separation(
        np.concatenate([present, absent]),
        np.arange(len(present) + len(absent)) < len(present),
        seed,
    )
    tpr, fpr = found.ends(confidence)
    value = float(ndtri(tpr) - ndtri(fpr)) if tpr > fpr else 0.0
    return MuEstimate(value, tpr, fpr, confidence, found.of + found.among)


def tightness(
    mechanisms: Sequence[Mechanism], scores: Scores, confidence: float = 0.95
) -> Tightness:
    """Compare what a canary shows with the trade-off curve of what the ledger charged, for one image added or removed.

    The curve and not a mu is the yardstick: of a Poisson sample it is no Gaussian's.

    Args:
        mechanisms: entries of the ledger that the scores are of, all together.
        scores: of the canary.
        confidence: of the comparison.

    >>> random = np.random.default_rng(0)
    >>> loud = Scores(random.normal(2, 1, 5000), random.normal(0, 1, 5000))
    >>> tightness([Mechanism(mechanism="gaussian", noise_multiplier=1)], loud).contradicts
    True
    >>> tightness([Mechanism(mechanism="gaussian", noise_multiplier=0.5)], loud).contradicts
    False
    """
    curve, found = trade_off(mechanisms), empirical_mu(scores.present, scores.absent, confidence)
    most = float(curve.tpr(found.fpr))
    at_fpr = float(ndtri(most) - ndtri(found.fpr)) if most < 1 else np.inf
    return Tightness(found, at_fpr if curve.mu is None else curve.mu, found.tpr > most)


def log_likelihood_ratio(projections: ArrayLike, mechanism: Mechanism) -> Floats:
    """Return how much likelier answers are with the canary than without, as the logarithm of the ratio.

    A step adds the canary's vector, of the length D of the sensitivity, with the probability q of sampling: along it the
    answer is (1 - q) N(0, sigma^2) + q N(D, sigma^2) with the canary and N(0, sigma^2) without (Mironov, Talwar and Zhang 2019,
    arXiv 1908.10530, section 3); log(1 - q + q exp((2 x D - D^2) / (2 sigma^2))), summed over the steps. Of integers with
    discrete Gaussian noise the densities have the same ratio.

    Args:
        projections: (steps, R), products x of each answer, less what the others add to it, and the canary's unit vector.
        mechanism: what is charged; it needs noise.

    Returns:
        float64 (R,).

    >>> log_likelihood_ratio([[0.0, 0.5, 1.0]], Mechanism(mechanism="gaussian", noise_multiplier=1)).tolist()
    [-0.5, 0.0, 0.5]
    """
    along, length = np.asarray(projections, np.float64), mechanism.sensitivity
    exponent = (2 * along * length - length**2) / (2 * mechanism.sigma**2)
    rate = mechanism.sampling_rate
    if rate < 1:
        exponent = np.logaddexp(np.log1p(-rate), np.log(rate) + exponent)
    return np.asarray(exponent.sum(0))
