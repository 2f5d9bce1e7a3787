"""What a guarantee leaves to any test for one image: its trade-off curve (Dong, Roth and Su, arXiv 1905.02383)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from tckr.dp.accounting import Mechanism, compose, gaussian_mu

# Lines of slope e^epsilon and e^-epsilon that bound the curve; between two the bound is loose by some 1e-5.
LINES = 400
# Largest epsilon of a line: e^epsilon must be a number.
LARGEST = 600.0


@dataclass(frozen=True)
class TradeOff:
    """Upper bound of the ROC curve of every test that tells one image's presence from its absence.

    Attributes:
        mu: of a Gaussian mechanism, whose curve is exact: TPR = Phi(Phi^-1(FPR) + mu); None for others.
        slopes: of the lines whose lower envelope bounds the curve of others; empty for a Gaussian.
        offsets: of the lines, at FPR 0.

    >>> curve = trade_off([Mechanism(mechanism="gaussian", noise_multiplier=1)])
    >>> round(float(curve.tpr(0.05)), 3), round(curve.auc, 3)
    (0.26, 0.76)
    """

    mu: float | None
    slopes: NDArray[np.float64]
    offsets: NDArray[np.float64]

    def tpr(self, fpr: ArrayLike) -> NDArray[np.float64]:
        """Return the largest true-positive rate at a false-positive rate in [0, 1]."""
        alpha = np.asarray(fpr, np.float64)
        if self.mu is not None:
            with np.errstate(invalid="ignore"):  # -inf + inf, of no noise at all, at FPR 0
                exact = ndtr(ndtri(alpha) + self.mu)
            return np.where(np.isnan(exact), 1.0, exact)
        lines = self.slopes[:, None] * alpha.ravel() + self.offsets[:, None]
        return np.asarray(np.clip(lines.min(0), 0, 1).reshape(alpha.shape))

    def fnr(self, fpr: ArrayLike) -> NDArray[np.float64]:
        """Return the smallest false-negative rate at a false-positive rate: f(FPR), the trade-off function."""
        return np.asarray(1 - self.tpr(fpr))

    @property
    def twice(self) -> "TradeOff":
        """The curve for private sets that differ in two images, or in which of two images is present.

        By group privacy it is the curve applied to itself (Dong, Roth and Su, section 2): of a Gaussian, twice the mu.

        >>> trade_off([Mechanism(mechanism="gaussian", noise_multiplier=2)]).twice.mu
        1.0
        """
        if self.mu is not None:
            return TradeOff(2 * self.mu, self.slopes, self.offsets)
        # Between its corners the curve is straight, so applied to itself it is straight between these.
        corners = self._corners()
        heights = self.tpr(corners)
        rising = np.append(True, np.diff(heights) > 0)
        inner = np.interp(corners, heights[rising], corners[rising])
        at = np.unique(np.concatenate([corners, inner]))
        # Two corners that differ by rounding alone would give a line of any slope.
        at = at[np.append(True, np.diff(at) > 1e-13)]
        up = self.tpr(self.tpr(at))
        slopes = np.diff(up) / np.diff(at)
        return TradeOff(None, slopes, up[:-1] - slopes * at[:-1])

    @property
    def auc(self) -> float:
        """Largest area under the ROC curve of any test, in [0.5, 1]."""
        if self.mu is not None:
            return float(ndtr(self.mu / math.sqrt(2)))
        # The bound is piecewise linear: trapezoids between its corners are its exact area.
        corners = self._corners()
        # Rounding may lift the sum of a thousand trapezoids above 1.
        return min(1.0, float(np.trapezoid(self.tpr(corners), corners)))

    def _corners(self) -> NDArray[np.float64]:
        """Return the false-positive rates between which the curve is straight, 0 and 1 included, ascending."""
        with np.errstate(divide="ignore", invalid="ignore"):
            crossings = -np.diff(self.offsets) / np.diff(self.slopes)
            tops = (1 - self.offsets) / self.slopes  # where a line reaches 1
        both = np.concatenate([crossings, tops])
        return np.unique(np.concatenate([[0, 1], both[(both > 0) & (both < 1)]]))


def trade_off(mechanisms: Sequence[Mechanism]) -> TradeOff:
    """Return the trade-off curve of mechanisms together: exact for Gaussians, else from all points of the composed PLD.

    Every (epsilon, delta) that the PLD proves bounds a test twice, TPR <= e^epsilon FPR + delta and
    1 - FPR <= e^epsilon (1 - TPR) + delta; together they are the curve itself (its convex dual, arXiv 1905.02383).
    """
    exact = gaussian_mu(mechanisms)
    if exact is not None:
        return TradeOff(exact, np.empty(0), np.empty(0))
    pld = compose(mechanisms)
    epsilons = np.linspace(0, min(pld.get_epsilon_for_delta(1e-9), LARGEST), LINES)
    deltas = np.asarray(pld.get_delta_for_epsilon(epsilons))
    steep, flat = np.exp(epsilons)[::-1], np.exp(-epsilons)
    slopes = np.concatenate([steep, flat[1:]])
    offsets = np.concatenate([deltas[::-1], 1 - flat[1:] * (1 - deltas[1:])])
    return TradeOff(None, slopes, offsets)
