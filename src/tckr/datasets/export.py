"""An image table in a format of other tools."""

from pathlib import Path
from typing import Any

from tckr.datasets.folder import FolderDataset
from tckr.datasets.image_table import CANARIES, PROMPTS, SOFT_LABELS
from tckr.images.export import CLASSES, LABELS, Export, write

FOLDER = """\
Each image lies in `<split>/<class>/`, so torchvision's `ImageFolder("train")` and `datasets.load_dataset("imagefolder",
data_dir="train")` open it; both number the classes by the names of their folders."""
WEBDATASET = """\
Each image is `<number>.png` in a tar file, beside its label (`<number>.cls`) and the rest (`<number>.json`), as WebDataset
reads them."""


class ExportDataset(FolderDataset[Any]):
    """A versioned folder of a `tckr.images.export.Export`: images, `labels.csv`, `classes.json`, `README.md`.

    In the catalog:

    ```yaml
    export:
      type: tckr.datasets.export.ExportDataset
      filepath: data/07_model_output/export
      versioned: true
    ```

    In Python:

    >>> import tempfile
    >>> import pandas as pd
    >>> table = pd.DataFrame(
    ...     {"image": [b"PNG"], "split": ["train"], "label": [0], "class_name": ["a/b"]}
    ... )
    >>> dataset = ExportDataset(filepath=f"{tempfile.mkdtemp()}/export")
    >>> dataset.save(Export(table, "folder"))
    >>> (dataset.load() / "train/a_b/000000.png").read_bytes()
    b'PNG'
    """

    def read(self, path: Path) -> Path:
        """Return the folder, which other tools open."""
        return path

    def write(self, data: Export, path: Path) -> None:
        """Write the images and what they are."""
        write(data, path)
        told = {"soft_label": SOFT_LABELS, "prompt": PROMPTS}
        parts = [
            "# Recycled set",
            FOLDER if data.format == "folder" else WEBDATASET,
            f"`{LABELS}` has a row for each image, with the number of its class in the recycled set and the student"
            f" (`label`). `{CLASSES}` has the names of all classes as they are; a name or text that a spreadsheet would"
            f" take for a formula has an apostrophe before it in `{LABELS}`.",
            *(text for column, text in told.items() if column in data.table),
            CANARIES if "canary" in data.table and data.table["canary"].any() else "",
        ]
        text = "\n\n".join(part for part in parts if part)
        (path / "README.md").write_text(f"{text}\n", encoding="utf-8")
