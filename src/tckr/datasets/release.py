"""What goes out, as a folder that is there whole or not at all."""

from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from tckr.datasets.folder import FolderDataset


class ReleaseDataset(FolderDataset[Any]):
    """A `tckr.release.bundle.Release` as the folder `<filepath>/<version>`, which is handed out as it is.

    Of a `tckr.release.bundle.Refused` nothing is written.

    In the catalog:

    ```yaml
    release:
      type: tckr.datasets.release.ReleaseDataset
      filepath: data/09_release
      versioned: true
    ```
    """

    def read(self, path: Path) -> Path:
        """Return the folder, which other tools open."""
        return path

    def save(self, data: Any) -> None:
        """Write the release; of a refused one leave no folder."""
        from tckr.release.bundle import Refused

        if not isinstance(data, Refused):
            super().save(data)

    def write(self, data: Any, path: Path) -> None:
        """Write the release.

        Raises:
            UserError: it breaks its policy.
        """
        from tckr.release.bundle import write

        write(data, path)

    def _get_versioned_path(self, version: str) -> PurePosixPath:
        super()._get_versioned_path(version)  # refuses a version that is no name
        return PurePosixPath(self._filepath) / version

    def _fetch_latest_load_version(self) -> str:
        found = [Path(path) for path in self._get_versions()]
        latest = [path.name for path in found if (path / "manifest.json").is_file()]
        return latest[0] if latest else super()._fetch_latest_load_version()

    def _get_version_from_path(self, path: str) -> str:
        return PurePath(path).name
