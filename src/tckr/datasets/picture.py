"""A picture that kedro-viz shows."""

import base64
import io
import os
from glob import glob
from pathlib import Path
from typing import Any

from kedro.io.core import AbstractVersionedDataset, Version
from kedro_datasets._typing import ImagePreview
from PIL import Image


class PictureDataset(AbstractVersionedDataset[Image.Image, Image.Image]):
    """A versioned PNG of a Pillow image.

    Unlike `pillow.ImageDataset` it has a preview, and the file appears under its name only once it is complete.
    """

    def __init__(
        self,
        *,
        filepath: str,
        version: Version | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Args: filepath: the `.png` file. metadata: for plugins, not used here."""
        self.metadata = metadata
        super().__init__(
            filepath=Path(filepath),
            version=version,
            exists_function=lambda path: Path(path).exists(),
            glob_function=glob,
        )

    def load(self) -> Image.Image:
        """Return the picture, read into memory."""
        with Image.open(Path(self._get_load_path())) as picture:
            return picture.copy()

    def save(self, data: Image.Image) -> None:
        """Write the picture whole or not at all."""
        target = Path(self._get_save_path())
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f".{target.name}-{os.getpid()}")
        try:
            data.save(unfinished, format="PNG")
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)

    def preview(self) -> ImagePreview:
        """Show the picture in kedro-viz."""
        return as_preview(self.load())

    def _exists(self) -> bool:
        return Path(self._get_load_path()).is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "version": self._version}


def as_preview(picture: Image.Image) -> ImagePreview:
    """Encode a picture as kedro-viz wants it: PNG in base64."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return ImagePreview(base64.b64encode(buffer.getvalue()).decode("ascii"))
