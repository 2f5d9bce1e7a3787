"""Our residual network with group norm, for training under differential privacy."""

from typing import Any

from torch import nn

from tckr.classifiers.resnet import ResNet

GROUPS = (16, 8, 4, 2, 1)  # the most that divide the channels


class GroupNormResNet(ResNet):
    """Our residual network with group norm, under which no image affects what is computed of another.

    Pre-train it as it is: a network with batch norm cannot be turned into one.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """As for `ResNet`."""
        super().__init__(*arguments, **named)
        for module in list(self.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, nn.BatchNorm2d):
                    channels = child.num_features
                    groups = next(groups for groups in GROUPS if channels % groups == 0)
                    setattr(module, name, nn.GroupNorm(groups, channels))
