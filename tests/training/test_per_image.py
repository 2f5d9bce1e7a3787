"""Gradients per image equal those of micro-batches of one, for every layer that has a rule."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tckr.training.per_image import PerImageGradients, clipped_sum, norms, recording

SIZES = st.integers(1, 3)


def compare(network: nn.Module, inputs: Tensor, images: int) -> None:
    """`inputs` are images * passes rows; the loss is nonlinear, so that mixed-up rows would show."""

    def losses(rows: Tensor) -> Tensor:
        return network(rows).square().flatten(1).sin().sum(1)

    passes = len(inputs) // images
    with recording(network) as record:
        found = record.gradients(losses(inputs).sum() / passes, images)
    for image in range(images):
        rows = inputs[image * passes : (image + 1) * passes]
        wanted = torch.autograd.grad(losses(rows).mean(), record.parameters)
        for each, ours in zip(wanted, found, strict=True):
            torch.testing.assert_close(ours[image], each, rtol=1e-4, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(
    SIZES, SIZES, st.integers(1, 5), st.integers(1, 5), st.lists(SIZES, max_size=2), st.booleans()
)
def test_linear(
    images: int, passes: int, inside: int, outside: int, positions: list[int], bias: bool
) -> None:
    compare(
        nn.Linear(inside, outside, bias), torch.randn(images * passes, *positions, inside), images
    )


@settings(max_examples=40, deadline=None)
@given(
    SIZES, SIZES, SIZES, SIZES, st.integers(1, 2), st.integers(1, 3), st.integers(1, 2), st.integers(1, 2),
    st.sampled_from([0, 1, "same", "valid"]), st.sampled_from(["zeros", "reflect"]), st.booleans(),
)  # fmt: skip
def test_convolution(
    images: int, passes: int, inside: int, outside: int, groups: int, kernel: int, stride: int, dilation: int,
    padding: int | str, mode: str, bias: bool,
) -> None:  # fmt: skip
    stride = 1 if padding == "same" else stride
    layer = nn.Conv2d(
        inside * groups, outside * groups, kernel, stride, padding, dilation, groups, bias, mode
    )
    compare(layer, torch.randn(images * passes, inside * groups, 6, 7), images)


@settings(max_examples=15, deadline=None)
@given(SIZES, SIZES, st.integers(1, 2), SIZES, st.lists(st.integers(2, 3), max_size=2))
def test_group_norm(
    images: int, passes: int, groups: int, width: int, positions: list[int]
) -> None:
    layer = nn.GroupNorm(groups, 2 * groups * width)
    nn.init.normal_(layer.weight)
    compare(layer, torch.randn(images * passes, 2 * groups * width, *positions), images)


@settings(max_examples=15, deadline=None)
@given(
    SIZES,
    SIZES,
    st.lists(st.integers(2, 3), max_size=2),
    st.lists(st.integers(2, 4), min_size=1, max_size=2),
)
def test_layer_norm(images: int, passes: int, positions: list[int], shape: list[int]) -> None:
    layer = nn.LayerNorm(shape)
    nn.init.normal_(layer.weight)
    compare(layer, torch.randn(images * passes, *positions, *shape), images)


def test_a_layer_that_is_called_twice_adds_both() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(self.layer(x).tanh())

    compare(Twice(), torch.randn(4, 3), 2)


def test_a_layer_that_the_loss_does_not_reach_has_no_gradient() -> None:
    network = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    with recording(network) as record:
        network[1](torch.randn(3, 2))
        found = record.gradients(network[0](torch.randn(3, 2)).sum(), 3)
    assert found[2].shape == (3, 2, 2)
    assert not found[2].any()


def tied() -> nn.Module:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    network[1].weight = network[0].weight  # PyTorch lists it once
    return network


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: nn.Embedding(3, 2), "no rule"),
        (lambda: nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), "over the batch"),
        (tied, "shared"),
    ],
)
def test_what_cannot_be_private_is_refused(build: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        PerImageGradients(build())


def test_a_change_in_place_is_noticed() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU(inplace=True))
    with recording(network) as record, pytest.raises(RuntimeError, match="in place"):
        record.gradients(network(torch.randn(2, 2)).sum(), 2)


def test_clipping() -> None:
    gradients = [torch.randn(6, 3, 2), torch.randn(6, 4)]
    gradients[0][2] *= 1e-3
    gradients[1][2] *= 1e-3
    gradients[1][4, 0] = torch.nan
    size = norms(gradients)
    wanted = [sum(g[i] * min(1, 0.5 / float(size[i])) for i in (0, 1, 2, 3, 5)) for g in gradients]
    for ours, each in zip(clipped_sum(gradients, 0.5), wanted, strict=True):
        torch.testing.assert_close(ours, each, rtol=1e-4, atol=1e-6)
    infinite = clipped_sum([torch.ones(2, 3)], float("inf"))
    assert infinite[0].tolist() == [2, 2, 2]
