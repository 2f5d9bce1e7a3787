"""A captured step does what the step does, on a GPU."""

import copy

import pytest
import torch
from torch import Tensor, nn

from tckr.training.cuda_graph import GraphedStep

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class Descent:
    """Stochastic gradient descent on noise of its own generator."""

    def __init__(self, start: nn.Linear) -> None:
        self.start, self.model = start, copy.deepcopy(start)
        self.generator = torch.Generator("cuda")

    def step(self) -> None:
        noise = torch.randn(32, 4, generator=self.generator, device="cuda")
        self.model.zero_grad(set_to_none=True)
        self.model(noise).square().mean().backward()
        with torch.no_grad():
            for weight in self.model.parameters():
                weight.sub_(0.1 * weight.grad)

    @torch.no_grad()
    def begin(self, seed: int) -> None:
        for weight, value in zip(self.model.parameters(), self.start.parameters(), strict=True):
            weight.copy_(value)
        self.generator.manual_seed(seed)

    def weights(self) -> Tensor:
        return torch.cat([weight.detach().flatten() for weight in self.model.parameters()])


@pytest.mark.parametrize("own_stream", [False, True])
def test_replays_are_steps(own_stream: bool) -> None:
    start = nn.Linear(4, 2, device="cuda")
    eager, graphed = Descent(start), Descent(start)
    stream = torch.cuda.Stream() if own_stream else None
    replay = GraphedStep(graphed.step, generators=[graphed.generator], stream=stream)
    for seed in (1, 2):
        eager.begin(seed)
        graphed.begin(seed)
        torch.cuda.synchronize()
        for _ in range(5):
            eager.step()
            replay()
        torch.cuda.synchronize()
        assert torch.equal(eager.weights(), graphed.weights())
