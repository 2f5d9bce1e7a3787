"""A classifier as a folder of config.json and model.safetensors."""

from pathlib import Path
from typing import Any

from tckr.datasets.folder import FolderDataset


class ClassifierDataset(FolderDataset[Any]):
    """A classifier of this project or of the hub, stored by `tckr.classifiers.models`.

    In the catalog:

    ```yaml
    student:
      type: tckr.datasets.classifier.ClassifierDataset
      filepath: data/06_models/student
      versioned: true
    ```

    In Python:

    >>> import tempfile
    >>> import torch
    >>> from tckr.classifiers.resnet import ResNet
    >>> student = ClassifierDataset(filepath=f"{tempfile.mkdtemp()}/student")
    >>> student.save(ResNet(1, 3, (8, 16), 1))
    >>> student.load()(torch.rand(5, 1, 16, 16)).shape
    torch.Size([5, 3])
    """

    def read(self, path: Path) -> Any:
        """Load the network in evaluation mode on the CPU."""
        from tckr.classifiers.models import load

        return load(path)

    def write(self, data: Any, path: Path) -> None:
        """Write configuration and weights."""
        from tckr.classifiers.models import save

        save(data, path)
