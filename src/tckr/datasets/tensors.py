"""Named tensors on disk: one safetensors file."""

from pathlib import Path
from typing import Any

from tckr.datasets.folder import FolderDataset


class TensorsDataset(FolderDataset[dict[str, Any]]):
    """A dictionary of torch tensors, for arrays too large for a table; `safetensors` opens the file without tckr."""

    FILE = "tensors.safetensors"

    def read(self, folder: Path) -> dict[str, Any]:
        """Load all tensors on the CPU."""
        from safetensors.torch import load_file

        return load_file(folder / self.FILE)

    def write(self, data: dict[str, Any], folder: Path) -> None:
        """Write the tensors, each in its own dtype."""
        from safetensors.torch import save_file

        save_file({name: tensor.contiguous() for name, tensor in data.items()}, folder / self.FILE)
