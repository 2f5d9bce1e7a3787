"""A page for the browser."""

import os
from glob import glob
from pathlib import Path
from typing import Any

from kedro.io.core import AbstractVersionedDataset, Version
from kedro_datasets._typing import HTMLPreview


class HtmlDataset(AbstractVersionedDataset[str, str]):
    """A versioned, self-contained HTML page (UTF-8), shown by kedro-viz."""

    def __init__(
        self,
        *,
        filepath: str,
        version: Version | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Args: filepath: the `.html` file. metadata: for plugins, not used here."""
        self.metadata = metadata
        super().__init__(
            filepath=Path(filepath),
            version=version,
            exists_function=lambda path: Path(path).exists(),
            glob_function=glob,
        )

    def load(self) -> str:
        """Return the page's source."""
        return Path(self._get_load_path()).read_text(encoding="utf-8")

    def save(self, data: str) -> None:
        """Write the page whole or not at all."""
        target = Path(self._get_save_path())
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f".{target.name}-{os.getpid()}")
        unfinished.write_text(data, encoding="utf-8")
        unfinished.replace(target)

    def preview(self) -> HTMLPreview:
        """Show the page in kedro-viz."""
        return HTMLPreview(self.load())

    def _exists(self) -> bool:
        return Path(self._get_load_path()).exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "version": self._version}
