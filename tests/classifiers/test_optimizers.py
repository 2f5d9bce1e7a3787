"""Optimizers take numbers or tensors as rates, and the rates fall as asked."""

import copy

import pytest
import torch
from torch import nn

from tckr.classifiers.optimizers import build_optimizer, one_cycle
from tckr.classifiers.options import ClassifierOptions
from tckr.classifiers.resnet import ResNet
from tckr.training.optimizers import Muon

X = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, count: int = 3) -> list[torch.Tensor]:
    for _ in range(count):
        loss = model(X).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return list(model.parameters())


def test_adamw_is_torchs() -> None:
    options = ClassifierOptions(optimiser="adamw", weight_decay=0.1)
    ours = ResNet(1, 2, (8,), 2)
    plain, recorded = copy.deepcopy(ours), copy.deepcopy(ours)
    expected = steps(plain, torch.optim.AdamW(plain.parameters(), lr=1e-2, weight_decay=0.1))
    optimizer = build_optimizer(ours, options, 0.0)
    optimizer.set_rate(1e-2)
    torch.testing.assert_close(steps(ours, optimizer), expected)
    rate = torch.zeros(())
    optimizer = build_optimizer(recorded, options, rate)
    rate.fill_(1e-2)
    torch.testing.assert_close(steps(recorded, optimizer), expected)


def test_an_emptied_state_is_a_fresh_start() -> None:
    options = ClassifierOptions(optimiser="adamw")
    model = ResNet(1, 2, (8,), 2)
    begun = copy.deepcopy(model.state_dict())
    optimizer = build_optimizer(model, options, 1e-2)
    first = [weight.clone() for weight in steps(model, optimizer)]
    model.load_state_dict(begun)
    for state in optimizer.state.values():
        for value in state.values():
            value.zero_()
    torch.testing.assert_close(steps(model, optimizer), first)


def test_muon_gets_every_weight_once() -> None:
    model = ResNet(3, 4, (8, 16), 2)
    optimizer = build_optimizer(model, ClassifierOptions(), 0.1)
    assert isinstance(optimizer, Muon)
    grouped = [id(weight) for group in optimizer.param_groups for weight in group["params"]]
    assert sorted(grouped) == sorted(id(weight) for weight in model.parameters())


@pytest.mark.parametrize("decay", ["linear", "cosine"])
def test_rates_rise_to_the_peak_and_fall_to_zero(decay: str) -> None:
    rates = [one_cycle(position / 100, 0.25, decay) for position in range(1, 100)]  # type: ignore[arg-type]
    assert max(rates) == pytest.approx(1)
    assert rates.index(max(rates)) == 24
    assert rates == sorted(rates[:25]) + sorted(rates[25:], reverse=True)
    assert rates[-1] < 0.02
    assert one_cycle(0.5, 0, decay) == pytest.approx(0.5)  # type: ignore[arg-type]
    assert (one_cycle(0.9, 0, decay) < 0.05) == (decay == "cosine")  # type: ignore[arg-type]
