"""The optimiser of the classifiers."""

import torch

from tckr.classifiers.muon import Muon, orthogonalise


def test_singular_values_come_near_one():
    for shape in ((8, 4, 3, 3), (32, 2, 3, 3)):
        update = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        values = torch.linalg.svdvals(orthogonalise(update, rounds=5).flatten(1))
        assert 0.5 < values.min() <= values.max() < 1.5
        assert orthogonalise(update).shape == shape


def test_direction_is_kept():
    update = torch.eye(4)[:, :, None, None] * 3
    result = orthogonalise(update, rounds=5).flatten(1)
    torch.testing.assert_close(result, torch.eye(4) * result[0, 0])


def test_convolutions_keep_their_norm_and_others_descend():
    convolution = torch.nn.Parameter(torch.randn(4, 2, 3, 3))
    other = torch.nn.Parameter(torch.tensor([1.0]))
    idle = torch.nn.Parameter(torch.tensor([1.0]))
    groups = [{"params": [convolution], "orthogonal": True}, {"params": [other, idle]}]
    optimiser = Muon(groups, lr=0.1, momentum=0.5)
    for _ in range(50):
        loss = (convolution * torch.arange(3.0)).sum() + other.square().sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert abs(float(other.detach())) < 0.01
    assert float(idle.detach()) == 1
    assert 1.5 < float(convolution.norm()) < 2.5
