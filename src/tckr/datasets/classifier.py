"""A classifier on disk: config.json and model.safetensors."""

from pathlib import Path
from typing import Any

from tckr.datasets.folder import FolderDataset


class ClassifierDataset(FolderDataset[Any]):
    """A `tckr.classifiers.resnet.ResNet`, stored by `tckr.classifiers.models`."""

    def read(self, folder: Path) -> Any:
        """Load the network in evaluation mode on the CPU."""
        from tckr.classifiers.models import load

        return load(folder)

    def write(self, data: Any, folder: Path) -> None:
        """Write configuration and weights."""
        from tckr.classifiers.models import save

        save(data, folder)
