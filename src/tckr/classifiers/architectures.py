"""The network that a recipe asks for: our small residual one, or any image classifier of transformers."""

from typing import TYPE_CHECKING, TypeAlias, Union

from tckr.classifiers.options import OURS, ClassifierOptions
from tckr.classifiers.resnet import ResNet, stem_stride

if TYPE_CHECKING:
    from tckr.classifiers.hub import HubClassifier

# Both map float images (B, C, H, W) in [0, 1] to logits, and have a `config` that is equal for networks of one make.
Network: TypeAlias = Union[ResNet, "HubClassifier"]


def build(options: ClassifierOptions, channels: int, n_classes: int, side: int) -> Network:
    """An untrained network (its body perhaps pretrained) on the CPU, its weights drawn by torch's default generator.

    Args:
        channels: of the images, 1 grey or 3 colour.
        side: the shorter side of the images, pixels.

    Raises:
        UserError: the architecture is a folder or hub id without a fitting model.
    """
    if options.architecture == OURS:
        stride = options.stride or stem_stride(side)
        return ResNet(channels, n_classes, options.widths, stride, options.depth)
    from tckr.classifiers.hub import from_source

    return from_source(options.architecture, options.pretrained, channels, n_classes)
