"""Differential privacy: what mechanisms cost, the ledger that charges them, and noise that nobody can compute again.

>>> from tckr.dp import Ledger, Noise, Plan, delta_default, noisy_counts
>>> ledger = Ledger(1.0, delta_default(3000), n=3000, data_hash="4f2a")
>>> entry, = ledger.plan([Plan(name="class counts", mechanism="discrete_gaussian", share=1,
...     why="an image has one class", code="doc")])
>>> round(entry.noise_multiplier, 1)
3.4
>>> noisy = noisy_counts([1500, 1500], ledger.spend("class counts", Noise()), Noise())
>>> bool(abs(noisy - 1500).max() < 60), round(ledger.epsilon(spent=True), 2), ledger.private
(True, 1.0, True)
"""

from tckr.dp.accounting import (
    Mechanism,
    delta_default,
    dp_sgd_noise_multiplier,
    epsilon_of_mu,
    gaussian_sigma,
    mu,
    total_epsilon,
)
from tckr.dp.budget import Plan, calibrate, check_signal, split
from tckr.dp.evolution import EvolutionOptions, check_votes, evolve, noisy_votes, votes_plan
from tckr.dp.ledger import Declaration, Entry, Ledger, check_delta, code_of
from tckr.dp.mechanisms import (
    add_noise,
    check_counts,
    clipped_sum,
    noisy_counts,
    noisy_histogram,
    noisy_sum,
)
from tckr.dp.noise import Noise
from tckr.dp.recorder import Answer, answer, check_sensitivity, recording
from tckr.dp.trade_off import TradeOff, trade_off

__all__ = [
    "Answer",
    "Declaration",
    "Entry",
    "EvolutionOptions",
    "Ledger",
    "Mechanism",
    "Noise",
    "Plan",
    "TradeOff",
    "add_noise",
    "answer",
    "calibrate",
    "check_counts",
    "check_delta",
    "check_sensitivity",
    "check_signal",
    "check_votes",
    "clipped_sum",
    "code_of",
    "delta_default",
    "dp_sgd_noise_multiplier",
    "epsilon_of_mu",
    "evolve",
    "gaussian_sigma",
    "mu",
    "noisy_counts",
    "noisy_histogram",
    "noisy_sum",
    "noisy_votes",
    "recording",
    "split",
    "total_epsilon",
    "trade_off",
    "votes_plan",
]
