"""The bound on every membership test: closed forms, and never below a test that exists."""

import math

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from tckr.dp import Ledger, delta_default, votes_plan
from tckr.dp.accounting import Mechanism
from tckr.dp.trade_off import trade_off

FPR = np.array([0, 1e-4, 1e-3, 0.01, 0.1, 0.3, 0.5, 0.9, 1])


@pytest.mark.parametrize("mu", [0.05, 0.5, 2.0])
def test_integer_noise_nearly_gives_the_gaussian_curve(mu: float):
    # Integer noise takes the way of the PLD; with many cells and a wide sigma its sum is a Gaussian.
    mechanism = Mechanism(
        mechanism="discrete_gaussian", noise_multiplier=1 / mu, sensitivity=math.sqrt(400)
    )
    curve = trade_off([mechanism])
    exact = ndtr(ndtri(FPR) + mu)
    assert (curve.tpr(FPR) >= exact - 1e-6).all()
    assert curve.tpr(FPR) == pytest.approx(exact, abs=2e-3)
    assert curve.auc == pytest.approx(ndtr(mu / math.sqrt(2)), abs=1e-3)


def test_gaussian_curve_is_exact():
    curve = trade_off([Mechanism(mechanism="gaussian", noise_multiplier=10, steps=25)])
    assert curve.tpr(FPR) == pytest.approx(ndtr(ndtri(FPR) + 0.5), abs=1e-12)
    assert curve.fnr(FPR) == pytest.approx(1 - curve.tpr(FPR))
    assert curve.auc == pytest.approx(ndtr(0.5 / math.sqrt(2)))


@pytest.mark.parametrize(("noise", "rate"), [(0.5, 0.2), (1.0, 0.5)])
def test_curve_of_a_sample_bounds_the_best_test_of_one_step(noise: float, rate: float):
    curve = trade_off(
        [Mechanism(mechanism="subsampled_gaussian", noise_multiplier=noise, sampling_rate=rate)]
    )
    cut = np.linspace(-6, 8, 2001)
    fpr, shifted = ndtr(-cut / noise), ndtr((1 - cut) / noise)
    best = (1 - rate) * fpr + rate * shifted  # an image added
    assert (curve.tpr(fpr) >= best - 1e-9).all()
    assert curve.tpr(fpr) == pytest.approx(
        best, abs=0.1
    )  # either may be the neighbour: the worse of two
    low = fpr < 0.01
    assert curve.tpr(fpr[low]) == pytest.approx(best[low], abs=1e-3)
    assert curve.auc >= -np.trapezoid(best, fpr) - 1e-9


def test_curve_is_concave_and_between_chance_and_one():
    curve = trade_off(
        [
            Mechanism(mechanism="gaussian", noise_multiplier=2),
            Mechanism(
                mechanism="subsampled_gaussian", noise_multiplier=1, sampling_rate=0.1, steps=50
            ),
        ]
    )
    fpr = np.linspace(0, 1, 501)
    tpr = curve.tpr(fpr)
    assert (tpr >= fpr).all()
    assert (np.diff(tpr) >= -1e-12).all()
    assert (np.diff(tpr, 2) <= 1e-9).all()
    assert tpr[-1] == 1
    assert curve.auc == pytest.approx(np.trapezoid(tpr, fpr), abs=1e-3)
    assert curve.auc >= np.trapezoid(tpr, fpr)


def test_without_noise_everything_can_be_told_and_without_questions_nothing():
    assert (trade_off([Mechanism(mechanism="gaussian", noise_multiplier=0)]).tpr(FPR) == 1).all()
    assert trade_off([]).tpr(FPR) == pytest.approx(FPR)
    assert trade_off([]).auc == 0.5


def test_twice_is_the_curve_applied_to_itself():
    exact = trade_off([Mechanism(mechanism="gaussian", noise_multiplier=2)]).twice
    assert exact.tpr(FPR) == pytest.approx(ndtr(ndtri(FPR) + 1))
    for mechanism in (
        Mechanism(mechanism="subsampled_gaussian", noise_multiplier=1, sampling_rate=0.1, steps=20),
        Mechanism(mechanism="discrete_gaussian", noise_multiplier=1, sensitivity=20),
    ):
        curve = trade_off([mechanism])
        fpr = np.union1d(np.linspace(0, 1, 2001), np.geomspace(1e-6, 1, 500))
        both = curve.tpr(curve.tpr(fpr))
        assert curve.twice.tpr(fpr) == pytest.approx(both, abs=1e-9)
        assert (curve.twice.tpr(fpr) >= curve.tpr(fpr) - 1e-12).all()
        assert curve.twice.auc == pytest.approx(np.trapezoid(both, fpr), abs=1e-5)
    # Of integer noise with many cells: a Gaussian of twice the mu.
    assert curve.twice.auc == pytest.approx(ndtr(2 / math.sqrt(2)), abs=2e-3)
    assert trade_off([]).twice.auc == 0.5


def test_a_budget_beyond_all_numbers_bounds_nothing_and_is_no_nan():
    words = Mechanism(mechanism="discrete_gaussian", noise_multiplier=0.1, sensitivity=10**0.5)
    curve = trade_off([words, Mechanism(mechanism="gaussian", noise_multiplier=0.05, steps=5)])
    for each in (curve, curve.twice):
        assert each.tpr(FPR[1:]) == pytest.approx(1)
        assert each.auc == pytest.approx(1)


def test_no_rounding_makes_an_area_of_more_than_one():
    """Of two votes an owner of 60 images at epsilon 50 the trapezoids add up to 1.0000000000000002."""
    ledger = Ledger(50, delta_default(60), 60, "test")
    ledger.plan([votes_plan(2, 1, per="owner")])
    assert 1 - 1e-9 < ledger.trade_off().auc <= 1
