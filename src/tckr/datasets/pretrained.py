"""A folder of a pretrained model in its library's own format."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from tckr.datasets.folder import FolderDataset


class SavesItself(Protocol):
    """What transformers, diffusers and their tokenizers and processors have in common."""

    def save_pretrained(self, folder: Path) -> Any:
        """Write yourself into `folder`."""


class PretrainedDataset(FolderDataset[Any]):
    """The parts of one model (network, tokenizer, processor), saved side by side; loads as the folder's path."""

    def read(self, folder: Path) -> Path:
        """The folder: each library loads its own."""
        return folder

    def write(self, data: Sequence[SavesItself], folder: Path) -> None:
        """Let each part write itself."""
        for part in data:
            part.save_pretrained(folder)
