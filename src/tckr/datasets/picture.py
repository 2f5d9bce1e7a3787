"""A picture that kedro-viz shows."""

import base64
import io
from pathlib import Path

from kedro_datasets._typing import ImagePreview
from PIL import Image

from tckr.datasets.folder import FileDataset


class PictureDataset(FileDataset[Image.Image]):
    """A versioned PNG of a Pillow image.

    Unlike `pillow.ImageDataset` it has a preview, and the file appears under its name only once it is complete.

    In the catalog:

    ```yaml
    contact_sheet:
      type: tckr.datasets.picture.PictureDataset
      filepath: data/08_reporting/contact_sheet.png
      versioned: true
    ```

    In Python:

    >>> import tempfile
    >>> picture = PictureDataset(filepath=f"{tempfile.mkdtemp()}/contact_sheet.png")
    >>> picture.save(Image.new("RGB", (4, 2), "white"))
    >>> picture.load().size
    (4, 2)
    """

    def read(self, path: Path) -> Image.Image:
        """Return the picture, read into memory."""
        with Image.open(path) as picture:
            return picture.copy()

    def write(self, data: Image.Image, path: Path) -> None:
        """Write the picture as PNG, whatever the name of the file."""
        data.save(path, format="PNG")

    def preview(self) -> ImagePreview:
        """Show the picture in kedro-viz."""
        return as_preview(self.load())


def as_preview(picture: Image.Image) -> ImagePreview:
    """Encode a picture in the form that kedro-viz expects: PNG in base64."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return ImagePreview(base64.b64encode(buffer.getvalue()).decode("ascii"))
