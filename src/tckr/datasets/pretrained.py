"""A pretrained model as a folder in its library's own format."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from tckr.datasets.folder import FolderDataset


class SavesPretrained(Protocol):
    """What the models, tokenizers, processors and pipelines of transformers and diffusers have in common."""

    def save_pretrained(self, folder: Path) -> Any:
        """Write this object into `folder`."""


class PretrainedDataset(FolderDataset[Any]):
    """The parts of one model (network, tokenizer, processor), saved side by side; loads as the folder's path.

    In the catalog:

    ```yaml
    captioner:
      type: tckr.datasets.pretrained.PretrainedDataset
      filepath: data/06_models/foundation/captioner
    ```

    In Python:

    ```python
    dataset = PretrainedDataset(filepath="data/06_models/foundation/captioner")
    dataset.save([model, processor])
    model = Blip2ForConditionalGeneration.from_pretrained(dataset.load())
    ```
    """

    def read(self, path: Path) -> Path:
        """Return the folder, which each library loads itself."""
        return path

    def write(self, data: Sequence[SavesPretrained], path: Path) -> None:
        """Let each part write itself."""
        for part in data:
            part.save_pretrained(path)
