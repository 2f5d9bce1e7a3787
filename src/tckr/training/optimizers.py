"""Optimizers whose learning rate may be a tensor, as a captured step needs: Muon and AdamW.

Muon: orthogonalized momentum for convolutions, plain Nesterov momentum for the rest. Jordan et al. 2024
(kellerjordan.github.io/posts/muon), as in the CIFAR-10 speed record of arXiv 2404.00498. On 3,000 Fashion-MNIST images
and 42,000 image passes it reached 87.0% where SGD reached 86.3% (10,000 validation images, one seed).
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

QUINTIC = (3.4445, -4.7750, 2.0315)  # the Muon post's coefficients of x, x^3, x^5


class Muon(torch.optim.Optimizer):
    """Nesterov momentum; in groups marked `orthogonal`, of convolutions, its updates are orthogonalized.

    The scale of a convolution before a batch norm has no effect on the output, so those weights are kept at a fixed
    norm, and the learning rate is the size of a step relative to that norm.

    With a tensor as learning rate all parameters are updated together in few kernels, and no Python code depends on
    its value: a CUDA graph can capture the step and read another rate at every replay.

    Example:
        >>> layer = torch.nn.Conv2d(1, 4, 3)
        >>> groups = [{"params": [layer.weight], "orthogonal": True}, {"params": [layer.bias]}]
        >>> optimizer = Muon(groups, lr=0.1, momentum=0.9)
        >>> layer(torch.ones(2, 1, 5, 5)).square().mean().backward()
        >>> optimizer.step()
    """

    def __init__(
        self, groups: Iterable[dict[str, Any]], lr: float | Tensor, momentum: float
    ) -> None:
        """Create the optimizer of some groups of parameters.

        Args:
            groups: of parameters; each may set `orthogonal` or `weight_decay`, not both.
            lr: a number, or a float32 scalar tensor on the device of the parameters, shared by all groups.
            momentum: in [0, 1).
        """
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": 0.0, "orthogonal": False}
        super().__init__(groups, defaults)

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of every group; for a learning rate that is a number."""
        for group in self.param_groups:
            group["lr"] = rate

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            if isinstance(group["lr"], Tensor):
                self._update_together(group)
                continue
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, weight.grad, group)

    def _update(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(weight)
        average = state["momentum"].mul_(group["momentum"]).add_(gradient)
        update = gradient.add(average, alpha=group["momentum"])
        if group["orthogonal"]:
            weight.mul_(len(weight) ** 0.5 / weight.norm())
            update = orthogonalize(update)
        else:
            weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.add_(update, alpha=-group["lr"])

    def _update_together(self, group: dict[str, Any]) -> None:
        weights = [weight for weight in group["params"] if weight.grad is not None]
        if not weights:
            return
        gradients = [weight.grad for weight in weights]
        averages = []
        for weight, gradient in zip(weights, gradients, strict=True):
            state = self.state[weight]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(gradient)
            averages.append(state["momentum"])
        torch._foreach_mul_(averages, group["momentum"])
        torch._foreach_add_(averages, gradients)
        updates = list(torch._foreach_add(gradients, averages, alpha=group["momentum"]))
        if group["orthogonal"]:
            for weight in weights:
                weight.mul_(len(weight) ** 0.5 / weight.norm())
            updates = orthogonalize_batch(updates)
        elif group["weight_decay"]:
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_mul_(updates, group["lr"])
        torch._foreach_sub_(weights, updates)


class AdamW(torch.optim.AdamW):
    """torch's AdamW, fused, with the interface of `Muon`.

    With a tensor as learning rate no Python code depends on its value, so that a CUDA graph can capture the step.
    """

    def __init__(
        self, parameters: Iterable[Tensor], lr: float | Tensor, weight_decay: float
    ) -> None:
        """Create the optimizer of `parameters`, on the device of `lr` where that is a tensor."""
        parameters = list(parameters)
        super().__init__(
            parameters,
            lr=lr,
            weight_decay=weight_decay,
            fused=True,
            capturable=parameters[0].is_cuda,
        )

    def set_rate(self, rate: float) -> None:
        """Set the learning rate; for a learning rate that is a number."""
        for group in self.param_groups:
            group["lr"] = rate


def orthogonalize(update: Tensor, rounds: int = 3) -> Tensor:
    """Push the singular values of `update` towards 1.

    Newton-Schulz iteration with the quintic polynomial of the Muon post; three rounds suffice for training.

    Args:
        update: float (outputs, ...), flattened to one row per output channel.
        rounds: of the iteration.

    Returns:
        The shape of `update`.

    Example:
        >>> update = torch.diag(torch.tensor([3.0, 1.0]))
        >>> torch.linalg.svdvals(orthogonalize(update, rounds=5)).sub(1).abs().max().item() < 0.5
        True
    """
    a, b, c = QUINTIC
    matrix = update.flatten(1)
    matrix = matrix / (matrix.norm() + 1e-7)
    wide = matrix.shape[0] <= matrix.shape[1]
    if not wide:
        matrix = matrix.T
    for _ in range(rounds):
        gram = matrix @ matrix.T
        matrix = a * matrix + (b * gram + c * gram @ gram) @ matrix
    return (matrix if wide else matrix.T).reshape(update.shape)


def orthogonalize_batch(updates: Sequence[Tensor], rounds: int = 3) -> list[Tensor]:
    """Apply `orthogonalize` to many updates, those of one shape in one product; on a GPU in bfloat16.

    Args:
        updates: float (outputs, inputs, height, width); fastest with channels last in memory.
        rounds: of the iteration.

    Returns:
        float32, in the order of `updates`, channels last in memory.
    """
    a, b, c = QUINTIC
    alike: dict[torch.Size, list[int]] = defaultdict(list)
    for place, update in enumerate(updates):
        alike[update.shape].append(place)
    results = list(updates)
    for shape, places in alike.items():
        # The order of the columns does not matter, so the order in memory is kept.
        matrix = torch.stack([updates[place].permute(0, 2, 3, 1).flatten(1) for place in places])
        matrix = matrix / (matrix.norm(dim=(1, 2), keepdim=True) + 1e-7)
        if matrix.is_cuda:
            matrix = matrix.bfloat16()
        wide = matrix.shape[1] <= matrix.shape[2]
        if not wide:
            matrix = matrix.mT
        for _ in range(rounds):
            gram = matrix @ matrix.mT
            gram = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
            matrix = torch.baddbmm(matrix, gram, matrix, beta=a)
        outputs, inputs, height, width = shape
        matrix = (matrix if wide else matrix.mT).float().contiguous()
        rows = matrix.view(-1, outputs, height, width, inputs).permute(0, 1, 4, 2, 3)
        for place, result in zip(places, rows.unbind(), strict=True):
            results[place] = result
    return results
