"""The private images, in any format that ingestion reads."""

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from tckr.errors import UserError

REMEDY = "give a folder with one folder per class, or a .parquet, .npz or .csv file: --params=images=<path>."


class RawImagesDataset(AbstractDataset[Path, Path]):
    """The path of the private image set, checked to exist; it is never written.

    In the catalog:

    ```yaml
    raw_images:
      type: tckr.datasets.raw_images.RawImagesDataset
      filepath: data/01_raw/fashion_mnist
    ```

    In Python:

    >>> RawImagesDataset(filepath="data/01_raw/fashion_mnist").load().name
    'fashion_mnist'
    """

    def __init__(
        self, *, filepath: str | int | None, metadata: dict[str, Any] | None = None
    ) -> None:
        """Say where the images are.

        Args:
            filepath: a folder or file that ingestion can read; the command line reads the name 2024 as a number.
            metadata: for plugins, not used here.

        Raises:
            UserError: no place is named.
        """
        if filepath is None or not str(filepath).strip():
            raise UserError("The parameter images names no place.", REMEDY)
        self._filepath = Path(str(filepath)).expanduser()
        self.metadata = metadata

    def load(self) -> Path:
        """Return the path.

        Raises:
            UserError: nothing is there.
        """
        self.check()
        return self._filepath

    def check(self) -> None:
        """Check, before a run begins, that something is there.

        Raises:
            UserError: nothing is there.
        """
        if not self._filepath.exists():
            raise UserError(f"There are no images at {self._filepath}.", REMEDY)

    def save(self, data: Path) -> None:
        """Refuse: the private set belongs to the user.

        Raises:
            UserError: always.
        """
        raise UserError(
            f"{self._filepath} is the private set and is only read.", "write to another entry."
        )

    def _exists(self) -> bool:
        return self._filepath.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
