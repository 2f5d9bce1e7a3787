"""A small residual network: fast on a CPU core, for images of any size, grey or colour."""

from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def stem_stride(size: int) -> int:
    """Return how many pixels of one axis the stem folds into one position: 2 below 48 pixels, then 4, 8.

    Example:
        >>> stem_stride(28), stem_stride(64), stem_stride(224)
        (2, 4, 16)
    """
    stride = 2
    while size // stride >= 24:
        stride *= 2
    return stride


class Block(nn.Module):
    """Two 3x3 convolutions with batch norm and a shortcut (He et al. 2016, arXiv 1512.03385)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.project: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.project = nn.Sequential(
                nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False),
                nn.Conv2d(inputs, outputs, 1, bias=False),
                nn.BatchNorm2d(outputs),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, ceil(H/stride), ceil(W/stride))."""
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.project(x))


class ResNet(nn.Module):
    """Space-to-depth stem, `depth` residual blocks per stage, global average pooling, linear head.

    The stem moves `stride` x `stride` pixels into channels, so that even the first convolution runs
    on a small grid: most of the cost of a small network on a CPU is in its first, large maps.
    """

    def __init__(
        self,
        channels: int,
        n_classes: int,
        widths: tuple[int, ...],
        stride: int,
        depth: int = 1,
    ) -> None:
        """`channels`: 1 grey or 3 colour; `stride`: see `stem_stride`; `depth`: blocks a stage."""
        super().__init__()
        self.channels, self.n_classes = channels, n_classes
        self.widths, self.stride, self.depth = tuple(widths), stride, depth
        self.stem = nn.Conv2d(channels * stride**2, widths[0], 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        self.stages = nn.Sequential(
            *(
                Block(widths[max(i - 1, 0)] if j == 0 else width, width, 2 if i and j == 0 else 1)
                for i, width in enumerate(widths)
                for j in range(depth)
            )
        )
        self.head = nn.Linear(widths[-1], n_classes)

    @property
    def config(self) -> dict[str, object]:
        """Return the arguments that rebuild this network."""
        return {
            "channels": self.channels,
            "n_classes": self.n_classes,
            "widths": list(self.widths),
            "stride": self.stride,
            "depth": self.depth,
        }

    @classmethod
    def from_config(cls, **config: Any) -> Self:
        """Build it, its weights without meaning, from `config`."""
        return cls(**config)

    def forward(self, x: Tensor) -> Tensor:
        """Map float images (B, C, H, W) in [0, 1] to logits (B, n_classes)."""
        short = [-side % self.stride for side in x.shape[-2:]]
        if any(short):
            x = F.pad(x, (0, short[1], 0, short[0]), mode="replicate")
        x = F.pixel_unshuffle((x - 0.5) / 0.25, self.stride)
        x = x.contiguous(memory_format=torch.channels_last)
        x = self.stages(F.relu(self.norm(self.stem(x))))
        return self.head(x.mean((2, 3)))
