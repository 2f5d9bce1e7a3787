"""A public pool: images of many categories that anybody may see, read from whatever holds labelled images."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from tckr.errors import UserError
from tckr.images.encoded import EncodedImages
from tckr.images.ingest import prepare_all
from tckr.images.labels import class_names
from tckr.images.options import IngestionOptions
from tckr.images.pixels import judge
from tckr.images.readers import read
from tckr.images.stores import Heap
from tckr.images.tensors import to_tensor

if TYPE_CHECKING:
    from torch import Tensor

SHOWN = 12  # images of a category on a sheet


@dataclass(frozen=True)
class PublicPool:
    """Public images with their categories.

    Attributes:
        images: uint8 (N, C, H, W).
        labels: int64 (N,), places in `categories`.
        categories: names, in alphabetical order.
    """

    images: "Tensor"
    labels: "Tensor"
    categories: tuple[str, ...]

    def of(self, category: int) -> "Tensor":
        """Return the images of a category, uint8 (n, C, H, W)."""
        return self.images[self.labels == category]


@lru_cache(maxsize=2)
def read_pool(source: Path | str, size: int, channels: int) -> PublicPool:
    """Read public images at the size and colour of a private set.

    Args:
        source: a folder of images, a Parquet file, ...: whatever `tckr.images.readers.read` reads; its labels are the
            categories, and its splits are ignored.
        size: of the square images to return, pixels.
        channels: 1 for grey, 3 for colour.

    Raises:
        UserError: nothing is there, it is no set of labelled images, or it has a single category.

    >>> pool = read_pool("data/01_raw/public/pool.parquet", size=28, channels=1)
    >>> pool.images.shape[1:], len(pool.categories) >= 60
    (torch.Size([1, 28, 28]), True)
    """
    import torch

    # Categories are pictures to look like, not things to measure: stretched to the frame, as the private set fills its own.
    options = IngestionOptions(
        size=size, channels="grey" if channels == 1 else "colour", fit="resize"
    )
    raw = read(Path(source), options)
    scales = judge(raw, options, str(source))

    pixels = Heap()
    prepared, _ = prepare_all(raw, options, scales, pixels)
    found = [str(image.raw.label) for image in prepared]
    names = class_names(set(found), raw.class_names, None, str(source))
    if len(names) < 2:
        raise UserError(
            f"The public pool {source} has {len(names)} categories.",
            "give it a folder per category, the more the better.",
        )
    places = {label: place for place, label in enumerate(names)}
    return PublicPool(
        to_tensor(EncodedImages.of(pixels, len(pixels))[[image.row for image in prepared]], channels),
        torch.tensor([places[label] for label in found]),
        tuple(names.values()),
    )


def examples(pool: PublicPool, categories: Sequence[int], count: int = SHOWN) -> "Tensor":
    """Return a few images of each of some categories in turn, uint8 (count, C, H, W) at most."""
    import torch

    each = -(-count // max(1, len(categories)))
    return torch.cat([pool.of(category)[:each] for category in categories])[:count]
