"""What an arm is fitted on, what everybody may know of it, and what comes out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(frozen=True)
class PrivateSet:
    """Private images to fit on.

    Attributes:
        images: uint8 tensor (N, C, H, W); N PNGs will do for a step that reads one image after another.
        labels: int64 (N,).
        class_names: names of the classes 0, 1, ...
        owners: int64 (N,), whose each image is (a patient's, say), whichever others there are; None: nothing says so.
    """

    images: Any
    labels: "Tensor"
    class_names: Sequence[str]
    owners: "NDArray[np.int64] | None" = None

    @property
    def facts(self) -> "PublicFacts":
        """What everybody may know of them."""
        return PublicFacts(len(self.labels), self.class_names, self.images.shape[1:])

    def at(self, rows: Sequence[int]) -> "PrivateSet":
        """Return the images at some rows."""
        from torch import Tensor

        from tckr.engine.rows import take

        chosen = list(rows)
        whole = self.images
        images = take(whole, chosen) if isinstance(whole, Tensor) else whole[chosen]
        owners = None if self.owners is None else self.owners[chosen]
        return replace(self, images=images, labels=self.labels[chosen], owners=owners)


class SyntheticSet(NamedTuple):
    """Synthetic images.

    Attributes:
        images: uint8 (M, C, H, W).
        labels: int64 (M,), the classes of their prompts.
    """

    images: "Tensor"
    labels: "Tensor"


@dataclass(frozen=True)
class PublicFacts:
    """What an arm may know of the members without having seen one: everybody may know it, under differential privacy too.

    Attributes:
        n_members: members.
        class_names: names of the classes 0, 1, ..., as the owner names them, whether or not a member shows each.
        shape: channels, height and width of the images.
    """

    n_members: int
    class_names: Sequence[str]
    shape: Sequence[int]


def class_prompts(class_names: Sequence[str]) -> tuple[list[str], list[int]]:
    """Return one bare prompt per class: its name.

    >>> class_prompts(["boot", "bag"])
    (['boot', 'bag'], [0, 1])
    """
    return list(class_names), list(range(len(class_names)))


def number_of(class_names: Sequence[str]) -> dict[str, int]:
    """Return the number of each class by its name."""
    return {name: number for number, name in enumerate(class_names)}
