"""Noise has the distribution that is charged for, comes fresh from the system, and is only repeated by a seed."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, kstest

from tckr.dp.noise import Noise


def test_normal_noise_is_normal():
    values = Noise(seed=1).normal((200, 500), 3.0).numpy().ravel()
    assert kstest(values / 3, "norm").pvalue > 1e-3
    assert values.std() == pytest.approx(3, rel=0.01)
    # Neighbours within a block share no bits.
    assert abs(np.corrcoef(values[1:], values[:-1])[0, 1]) < 0.02


def test_normal_noise_in_blocks_type_and_shape(monkeypatch):
    monkeypatch.setattr("tckr.dp.noise.BLOCK", 7)
    noise = Noise(seed=1).normal((5, 4), 1.0)
    assert noise.shape == (5, 4)
    assert noise.dtype == torch.float64
    assert len(np.unique(noise)) == 20
    assert Noise().normal((0,), 1.0).shape == (0,)
    assert Noise().normal((2,), 1.0, dtype=torch.float32).dtype == torch.float32


def test_each_call_is_fresh_and_a_seed_repeats():
    assert not torch.equal(Noise().normal((4,), 1), Noise().normal((4,), 1))
    assert torch.equal(Noise(seed=3).normal((4,), 1), Noise(seed=3).normal((4,), 1))
    seeded = Noise(seed=3)
    assert not torch.equal(seeded.normal((4,), 1), seeded.normal((4,), 1))
    torch.manual_seed(0)
    first = Noise().normal((4,), 1)
    torch.manual_seed(0)
    assert not torch.equal(first, Noise().normal((4,), 1))


def test_a_copy_of_the_source_does_not_repeat_its_noise():
    source = Noise()
    assert not torch.equal(copy.deepcopy(source).normal((4,), 1), source.normal((4,), 1))


@pytest.mark.parametrize("sigma", [0.4, 1.0, 3.3])
def test_discrete_noise_has_the_exact_distribution(sigma: float):
    draws = Noise(seed=5).discrete_gaussian((6000,), sigma)
    support = np.arange(-60, 61)
    pmf = np.exp(-(support**2) / (2 * sigma**2))
    expected = 6000 * pmf / pmf.sum()
    observed = np.array([(draws == value).sum() for value in support])
    common = expected >= 5
    tails = [observed[~common].sum()], [expected[~common].sum()]
    result = chisquare(
        np.concatenate([observed[common], tails[0]]), np.concatenate([expected[common], tails[1]])
    )
    assert result.pvalue > 1e-3


def test_discrete_noise_is_whole_symmetric_and_as_wide_as_charged():
    sigma = 20 * math.sqrt(10)
    draws = Noise(seed=6).discrete_gaussian((40, 100), sigma)
    assert draws.dtype == np.int64
    assert draws.shape == (40, 100)
    assert draws.var() == pytest.approx(sigma**2, rel=4 * math.sqrt(2 / 4000))
    assert abs(draws.mean()) < 4 * sigma / math.sqrt(4000)
    assert abs((draws > 0).mean() - (draws < 0).mean()) < 4 / math.sqrt(4000)
    assert (Noise().discrete_gaussian((3,), 0) == 0).all()


def test_poisson_samples_take_each_image_by_itself():
    noise = Noise(seed=7)
    samples = np.stack([noise.poisson_sample(400, 0.3) for _ in range(200)])
    assert samples.mean() == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / 80_000))
    sizes = samples.sum(1)
    assert sizes.var() == pytest.approx(400 * 0.21, rel=0.5)  # a fixed size would have none
    assert noise.poisson_sample(50, 1).all()
    assert not noise.poisson_sample(50, 0).any()
    assert noise.poisson_sample(0, 0.5).shape == (0,)


@pytest.mark.parametrize("scale", [-1.0, math.nan, math.inf])
def test_impossible_scales(scale: float):
    with pytest.raises(ValueError, match="finite"):
        Noise().normal((2,), scale)
    with pytest.raises(ValueError, match="finite"):
        Noise().discrete_gaussian((2,), scale)


def test_seeds_are_fresh_unless_the_noise_is_seeded() -> None:
    assert len({Noise().seed() for _ in range(10)}) == 10
    assert [Noise(seed=3).seed() for _ in range(2)] == [Noise(seed=3).seed()] * 2
    assert 0 <= Noise().seed() < 2**63
