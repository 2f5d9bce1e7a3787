"""Named tensors as one safetensors file."""

from pathlib import Path
from typing import Any

from tckr.datasets.folder import FolderDataset

TENSORS = "tensors.safetensors"


class TensorsDataset(FolderDataset[dict[str, Any]]):
    """A dictionary of torch tensors, for arrays too large for a table; `safetensors` opens the file without tckr.

    In the catalog:

    ```yaml
    shadow_scores:
      type: tckr.datasets.tensors.TensorsDataset
      filepath: data/07_model_output/shadow_scores
      versioned: true
    ```

    In Python:

    >>> import tempfile
    >>> import torch
    >>> scores = TensorsDataset(filepath=f"{tempfile.mkdtemp()}/shadow_scores")
    >>> scores.save({"teacher": torch.zeros(4, 10)})
    >>> scores.load()["teacher"].shape
    torch.Size([4, 10])
    """

    def read(self, path: Path) -> dict[str, Any]:
        """Load all tensors on the CPU."""
        return read_tensors(path / TENSORS)

    def write(self, data: dict[str, Any], path: Path) -> None:
        """Write the tensors, each in its own dtype."""
        write_tensors(data, path / TENSORS)


def read_tensors(file: Path) -> dict[str, Any]:
    """Load a safetensors file on the CPU."""
    from safetensors.torch import load_file

    return load_file(file)


def write_tensors(tensors: dict[str, Any], file: Path) -> None:
    """Write a dictionary of tensors as a safetensors file."""
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
