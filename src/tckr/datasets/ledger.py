"""A privacy ledger as the JSON file that its run wrote."""

from pathlib import Path
from typing import Any

from tckr.datasets.folder import FileDataset


class LedgerDataset(FileDataset[Any]):
    """A `tckr.dp.Ledger` as JSON with a checksum; what was spent is read, never computed again.

    In the catalog:

    ```yaml
    "{arm}.ledger":
      type: tckr.datasets.ledger.LedgerDataset
      filepath: data/07_model_output/{arm}/ledger.json
      versioned: true
    ```

    In Python:

    >>> import tempfile
    >>> from tckr.dp import Ledger
    >>> entry = LedgerDataset(filepath=f"{tempfile.mkdtemp()}/ledger.json")
    >>> entry.save(Ledger(1.0, delta=1e-5, n=3000, data_hash="4f2a"))
    >>> entry.load().total_epsilon
    1.0
    """

    def read(self, path: Path) -> Any:
        """Return the ledger.

        Raises:
            UserError: it was changed after it was written, or is no ledger.
        """
        from tckr.dp.ledger import Ledger

        return Ledger.from_json(path.read_text(encoding="utf-8"), source=str(path))

    def write(self, data: Any, path: Path) -> None:
        """Write the ledger."""
        path.write_text(data.to_json() + "\n", encoding="utf-8")
