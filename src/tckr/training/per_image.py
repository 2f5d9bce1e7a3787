"""Gradients image by image, from what each layer reads and what is asked of its output.

For a linear layer y = W x the gradient of one image is a product of its output gradients and its inputs, summed over its
positions (Goodfellow 2015, arXiv 1510.01799); a convolution is one over patches. No gradient of a single pass is ever
formed: several passes of an image (views, noise levels) lengthen the sum. For the factors of a LoRA the products are small.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Below the norm by more than rounding, so that it cannot lift a clipped gradient above it.
HAIR = 1 - 1e-5


class PerImageGradients:
    """Records the trained layers of a network during a forward pass and then computes a gradient per image.

    Example:
        >>> layer = nn.Linear(2, 1, bias=False)
        >>> images = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> with recording(layer) as record:
        ...     loss = layer(images).sum()
        ...     [gradient] = record.gradients(loss, images=2)
        >>> gradient
        tensor([[[1., 2.]],
        <BLANKLINE>
                [[3., 4.]]])
    """

    def __init__(self, network: nn.Module) -> None:
        """Find the trained parameters.

        Raises:
            TypeError: a trained parameter belongs to a layer of a kind without a rule, or to several layers; or a batch
                norm in training mode lets one image change what is computed of another.
        """
        self.parameters: list[nn.Parameter] = []
        self._layers: list[
            tuple[nn.Module, str, int]
        ] = []  # layer, name in it, place in `parameters`
        for name, layer in network.named_modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.training:
                raise TypeError(
                    f"{name} normalises over the batch, so that images depend on each other"
                )
            for own, parameter in layer.named_parameters(recurse=False):
                if not parameter.requires_grad:
                    continue
                if type(layer) not in RULES:
                    raise TypeError(
                        f"{name} is a {type(layer).__name__}, which has no rule for a gradient per image"
                    )
                if any(parameter is other for other in self.parameters):
                    raise TypeError(f"{name}.{own} is shared with another layer")
                self._layers.append((layer, own, len(self.parameters)))
                self.parameters.append(parameter)
        self._calls: list[tuple[nn.Module, Tensor, Tensor, int]] = []

    def remember(self, layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Take note of one call; a forward hook."""
        if torch.is_grad_enabled():
            self._calls.append((layer, inputs[0].detach(), output, output._version))

    def gradients(self, loss: Tensor, images: int) -> list[Tensor]:
        """Return the gradient of each image, and forget the passes.

        Args:
            loss: the sum over images of the mean over their passes of a loss that each pass determines alone.
            images: n. Every recorded layer must have read n * passes rows, those of one image next to each other.

        Returns:
            One tensor (n, *shape) per trained parameter, float32, in the order of `parameters`.
        """
        calls, self._calls = self._calls, []
        for layer, _, output, version in calls:
            if output._version != version:
                raise RuntimeError(f"the output of a {type(layer).__name__} was changed in place")
        outputs: Sequence[Tensor | None] = torch.autograd.grad(
            loss, [call[2] for call in calls], allow_unused=True
        )
        places: dict[nn.Module, dict[str, int]] = defaultdict(dict)
        for layer, own, place in self._layers:
            places[layer][own] = place
        found: list[Tensor | None] = [None] * len(self.parameters)
        for (layer, inputs, _, _), gradient in zip(calls, outputs, strict=True):
            if gradient is None:
                continue
            passes = (images, len(inputs) // images)
            parts = RULES[type(layer)](
                layer, inputs.to(gradient.dtype).unflatten(0, passes), gradient.unflatten(0, passes)
            )
            for own, place in places[layer].items():
                part, sofar = parts[own]().float(), found[place]
                found[place] = part if sofar is None else sofar + part
        return [
            parameter.new_zeros(images, *parameter.shape) if each is None else each
            for parameter, each in zip(self.parameters, found, strict=True)
        ]


@contextmanager
def recording(network: nn.Module) -> Iterator[PerImageGradients]:
    """Record the passes of `network` within the block."""
    record = PerImageGradients(network)
    layers = dict.fromkeys(layer for layer, _, _ in record._layers)
    hooks = [layer.register_forward_hook(record.remember) for layer in layers]
    try:
        yield record
    finally:
        for hook in hooks:
            hook.remove()


def norms(gradients: Sequence[Tensor]) -> Tensor:
    """Return the norm of each image's whole gradient, float32 (n,)."""
    squares = [each.flatten(1).float().square().sum(1) for each in gradients]
    return torch.stack(squares).sum(0).sqrt()


def clipped_sum(gradients: Sequence[Tensor], max_norm: float) -> list[Tensor]:
    """Scale each image's gradient to at most `max_norm` and add them up: the only thing that noise is added to.

    An image's gradient that is not finite counts as zero: otherwise it would show through any noise.

    Args:
        gradients: (n, *shape) per parameter.
        max_norm: of one image's whole gradient; infinity for none.

    Returns:
        One sum per parameter.

    Example:
        >>> clipped_sum([torch.tensor([[3.0, 4.0], [0.3, 0.4]])], max_norm=1.0)
        [tensor([0.9000, 1.2000])]
    """
    size = norms(gradients)
    factors = (HAIR * max_norm / size).clamp(max=1)
    factors = torch.where(size.isfinite(), factors, 0.0)
    return [
        torch.tensordot(factors, each.nan_to_num(0.0, 0.0, 0.0), 1)
        if each.ndim > 1
        else factors @ each
        for each in gradients
    ]


Parts = dict[str, Callable[[], Tensor]]


def _linear(layer: Any, inputs: Tensor, gradient: Tensor) -> Parts:
    """Gradients (n, K, ..., out) and inputs (n, K, ..., in): positions and passes are summed alike."""
    g, x = gradient.flatten(1, -2), inputs.flatten(1, -2)
    return {"weight": lambda: g.mT @ x, "bias": lambda: g.sum(1)}


def _convolution(layer: Any, inputs: Tensor, gradient: Tensor) -> Parts:
    def weight() -> Tensor:
        images, passes = inputs.shape[:2]
        x, margins = inputs.flatten(0, 1), _margins(layer)
        if layer.kernel_size == (1, 1) and layer.stride == (1, 1) and not any(margins):
            patches = x.flatten(2)
        else:
            mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
            padded = F.pad(x, margins, mode=mode)
            patches = F.unfold(padded, layer.kernel_size, layer.dilation, 0, layer.stride)
        groups = layer.groups
        patches = patches.view(images, passes, groups, -1, patches.shape[-1])
        g = gradient.flatten(3).unflatten(2, (groups, -1))
        product = torch.einsum("nkgol,nkgil->ngoi", g, patches)
        return product.reshape(images, *layer.weight.shape)

    return {"weight": weight, "bias": lambda: gradient.sum((1, 3, 4))}


def _margins(layer: Any) -> list[int]:
    """Return the padding as `F.pad` reads it: left, right, top, bottom."""
    return list(layer._reversed_padding_repeated_twice)


def _group_norm(layer: Any, inputs: Tensor, gradient: Tensor) -> Parts:
    """Gradients and inputs (n, K, C, ...)."""
    x = F.group_norm(inputs.flatten(0, 1), layer.num_groups, eps=layer.eps).view_as(inputs)
    rest = tuple(i for i in range(1, x.ndim) if i != 2)
    return {"weight": lambda: (gradient * x).sum(rest), "bias": lambda: gradient.sum(rest)}


def _layer_norm(layer: Any, inputs: Tensor, gradient: Tensor) -> Parts:
    """Gradients and inputs (n, K, ..., *normalized_shape)."""
    x = F.layer_norm(inputs, layer.normalized_shape, eps=layer.eps)
    rest = tuple(range(1, x.ndim - len(layer.normalized_shape)))
    return {"weight": lambda: (gradient * x).sum(rest), "bias": lambda: gradient.sum(rest)}


RULES: dict[type[nn.Module], Callable[[Any, Tensor, Tensor], Parts]] = {
    nn.Linear: _linear,
    nn.Conv2d: _convolution,
    nn.GroupNorm: _group_norm,
    nn.LayerNorm: _layer_norm,
}
