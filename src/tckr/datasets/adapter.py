"""The adapter of the generator on disk."""

from pathlib import Path
from typing import Any

from tckr.datasets.folder import FolderDataset


class AdapterDataset(FolderDataset[Any]):
    """A `tckr.diffusion.lora.Adapter`: LoRA weights as safetensors, which diffusers loads from the folder."""

    def read(self, folder: Path) -> Any:
        """Load the weights on the CPU."""
        from tckr.diffusion.lora import Adapter

        return Adapter.load(folder)

    def write(self, data: Any, folder: Path) -> None:
        """Write the weights."""
        data.save(folder)
