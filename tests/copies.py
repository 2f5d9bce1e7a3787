"""Watch that no code makes a copy of a whole set of images."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Largest(TorchDispatchMode):
    """Remembers the largest tensor that an operation has made, in elements, and the operation."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self._own = images.untyped_storage().data_ptr()
        self.elements, self.operation = 0, ""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() != self._own:
                held = tensor.untyped_storage().nbytes() // tensor.element_size()
                if held > self.elements:
                    self.elements, self.operation = held, str(func)
        return made


@contextmanager
def no_copies(images: Tensor, share: float = 0.5) -> Iterator[None]:
    """Fail if an operation within the block makes a tensor of more than a share of the elements of `images`."""
    with torch.no_grad(), _Largest(images) as largest, torch.enable_grad():
        yield
    assert largest.elements <= share * images.numel(), (
        f"{largest.operation} makes {largest.elements:,} elements beside {images.numel():,} of the images"
    )
