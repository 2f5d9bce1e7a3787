"""A public pool: images of many categories that anybody may see, read from whatever holds labelled images."""

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
        UserError: nothing is there, or it is no set of labelled images of two categories.

    >>> pool = read_pool("data/01_raw/public/pool.parquet", size=28, channels=1)
    >>> pool.images.shape[1:], len(pool.categories) >= 60
    (torch.Size([1, 28, 28]), True)
    """
    import torch

    # Categories are pictures to look like, not things to measure: stretched to the frame, as the private set fills its own.
    options = IngestionOptions(
        size=size, channels="grey" if channels == 1 else "colour", fit="resize"
    )
    if not Path(source).exists():
        raise UserError(
            f"There is no public pool at {source}.",
            "set privimage.semantic_query.pool to a folder per category, or a table, of public images.",
        )
    raw = read(Path(source), options)
    scales = judge(raw, options, str(source))

    pixels = Heap()
    prepared, _ = prepare_all(raw, options, scales, pixels)
    found = [str(image.raw.label) for image in prepared]
    names = class_names(set(found), raw.class_names, None, str(source))
    places = {label: place for place, label in enumerate(names)}
    return PublicPool(
        to_tensor(
            EncodedImages.of(pixels, len(pixels))[[image.row for image in prepared]], channels
        ),
        torch.tensor([places[label] for label in found]),
        tuple(names.values()),
    )
