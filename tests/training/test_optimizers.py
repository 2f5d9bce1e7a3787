"""The optimizer of the classifiers."""

import torch

from tckr.training.optimizers import Muon, orthogonalize, orthogonalize_batch


def test_singular_values_come_near_one():
    for shape in ((8, 4, 3, 3), (32, 2, 3, 3)):
        update = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        values = torch.linalg.svdvals(orthogonalize(update, rounds=5).flatten(1))
        assert 0.5 < values.min() <= values.max() < 1.5
        assert orthogonalize(update).shape == shape


def test_direction_is_kept():
    update = torch.eye(4)[:, :, None, None] * 3
    result = orthogonalize(update, rounds=5).flatten(1)
    torch.testing.assert_close(result, torch.eye(4) * result[0, 0])


def test_convolutions_keep_their_norm_and_others_descend():
    convolution = torch.nn.Parameter(torch.randn(4, 2, 3, 3))
    other = torch.nn.Parameter(torch.tensor([1.0]))
    idle = torch.nn.Parameter(torch.tensor([1.0]))
    groups = [{"params": [convolution], "orthogonal": True}, {"params": [other, idle]}]
    optimizer = Muon(groups, lr=0.1, momentum=0.5)
    for _ in range(50):
        loss = (convolution * torch.arange(3.0)).sum() + other.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert abs(float(other.detach())) < 0.01
    assert float(idle.detach()) == 1
    assert 1.5 < float(convolution.norm()) < 2.5


def test_together_is_each_by_itself():
    shapes = [(8, 4, 3, 3), (4, 8, 1, 1), (8, 4, 3, 3), (32, 2, 3, 3)]
    generator = torch.Generator().manual_seed(0)
    updates = [torch.randn(shape, generator=generator) for shape in shapes]
    updates[0] = updates[0].to(memory_format=torch.channels_last)
    for result, update in zip(orthogonalize_batch(updates), updates, strict=True):
        torch.testing.assert_close(result, orthogonalize(update), rtol=1e-4, atol=1e-5)


def test_a_rate_in_a_tensor_moves_the_weights_as_a_number_does():
    generator = torch.Generator().manual_seed(0)
    shapes = [(6, 3, 3, 3), (6, 6, 3, 3), (5, 2), (5,)]
    start = [torch.randn(shape, generator=generator) for shape in shapes]
    ends = []
    for rate in (0.1, torch.tensor(0.1)):
        weights = [torch.nn.Parameter(tensor.clone()) for tensor in start]
        groups = [
            {"params": weights[:2], "orthogonal": True},
            {"params": weights[2:3], "weight_decay": 0.1},
            {"params": weights[3:]},
        ]
        optimizer = Muon(groups, rate, momentum=0.9)
        for step in range(5):
            for index, weight in enumerate(weights):
                weight.grad = torch.sin(weight.detach() * 3 + step + index)
            optimizer.step()
        ends.append([weight.detach() for weight in weights])
    for number, tensor, before in zip(*ends, start, strict=True):
        torch.testing.assert_close(tensor, number, rtol=1e-4, atol=1e-5)
        assert (tensor - before).norm() > 0.1
