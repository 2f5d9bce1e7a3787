"""Rows of a tensor that may be larger than memory: some of them taken out, or all of them shared with other processes."""

import os
from collections.abc import Sequence
from functools import cached_property
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from tckr.engine.mapped import large_array, scratch_file

if TYPE_CHECKING:
    import torch
    from torch import Tensor

PART = 1024  # rows that are copied at once
PAGE = 4096  # bytes of a row of `SharedTensors`
ALIGNED = (
    16  # bytes at whose multiples a tensor of `SharedTensors` begins: no type has larger numbers
)
# Where a process opens the files of another, those without a name too: Linux alone.
OPEN_FILES = Path("/proc/self/fd")


def take(tensor: "Tensor", rows: Sequence[int]) -> "Tensor":
    """Return a copy of some rows, which lies in a scratch file if it is large; see `tckr.engine.mapped`.

    >>> import torch
    >>> take(torch.tensor([[1, 2], [3, 4], [5, 6]], dtype=torch.uint8), [2, 0]).tolist()
    [[5, 6], [1, 2]]
    """
    import torch

    chosen = torch.as_tensor(rows, dtype=torch.int64)
    shape = (len(chosen), *tensor.shape[1:])
    taken = torch.from_numpy(large_array(shape, _numpy_type(tensor)))
    for start in range(0, len(chosen), PART):
        taken[start : start + PART] = tensor[chosen[start : start + PART]]
    return taken


class Shared:
    """A tensor that other processes of this machine receive as a file that all of them map, not as a copy for each.

    It is written once, to a scratch file without a name, so that nothing of it is left behind whatever ends this
    process; the others open it while this object lives. Unpickled, it is the tensor itself. Where a process cannot open
    the files of another, every process receives a copy.
    """

    def __init__(self, tensor: "Tensor") -> None:
        """Hold a tensor on the CPU."""
        self.tensor = tensor
        self._file: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        if not OPEN_FILES.is_dir():
            return _itself, (self.tensor,)
        if self._file is None:
            self._file = scratch_file()
            for part in self.tensor.split(PART):
                self._file.write(part.contiguous().numpy().data)
            self._file.flush()
        path = f"/proc/{os.getpid()}/fd/{self._file.fileno()}"
        return _mapped, (path, self.tensor.dtype, tuple(self.tensor.shape))


class SharedTensors(dict[str, "Tensor"]):
    """Tensors by their names that other processes receive as one file, as of a `Shared`; unpickled, it is a dictionary.

    They are copied once, one after the other, to memory or to a scratch file (`tckr.engine.mapped.large_array`). The receivers map
    the file together: nobody may change them.

    >>> import pickle, torch
    >>> weights = SharedTensors({"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([True])})
    >>> pickle.loads(pickle.dumps(weights))
    {'a': tensor([1., 2.]), 'b': tensor([True])}
    """

    @cached_property
    def _packed(self) -> tuple[Shared, dict[str, Any]]:
        import torch

        places, end = {}, 0
        for name, tensor in self.items():
            places[name] = (end, tensor.dtype, tuple(tensor.shape))
            end += -(-tensor.nbytes // ALIGNED) * ALIGNED
        whole = torch.from_numpy(large_array((-(-end // PAGE), PAGE), np.uint8))
        for name, tensor in self.items():
            start = places[name][0]
            content = tensor.contiguous().reshape(-1).view(torch.uint8)
            whole.view(-1)[start : start + len(content)] = content
        return Shared(whole), places

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpacked, self._packed


def map_file(file: BinaryIO, dtype: "torch.dtype", shape: tuple[int, ...]) -> "Tensor":
    """Return a tensor that lies in an open file, mapped into memory."""
    import torch

    if not prod(shape):
        return torch.empty(shape, dtype=dtype)
    pixels = np.memmap(file, np.uint8, "r+", shape=(prod(shape) * dtype.itemsize,))
    return torch.from_numpy(pixels).view(dtype).view(shape)


def _unpacked(whole: "Tensor", places: dict[str, Any]) -> "dict[str, Tensor]":
    flat = whole.view(-1)
    return {
        name: flat[start : start + prod(shape) * dtype.itemsize].view(dtype).view(shape)
        for name, (start, dtype, shape) in places.items()
    }


def _itself(tensor: "Tensor") -> "Tensor":
    return tensor


def _mapped(path: str, dtype: "torch.dtype", shape: tuple[int, ...]) -> "Tensor":
    with open(path, "r+b") as file:
        return map_file(file, dtype, shape)


def _numpy_type(tensor: "Tensor") -> Any:
    return tensor[:0].numpy().dtype
