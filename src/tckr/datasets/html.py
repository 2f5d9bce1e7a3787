"""An HTML page."""

from pathlib import Path

from kedro_datasets._typing import HTMLPreview

from tckr.datasets.folder import FileDataset


class HtmlDataset(FileDataset[str]):
    """A versioned, self-contained HTML page (UTF-8), shown by kedro-viz.

    In the catalog:

    ```yaml
    report:
      type: tckr.datasets.html.HtmlDataset
      filepath: data/08_reporting/report.html
      versioned: true
    ```

    In Python:

    >>> import tempfile
    >>> page = HtmlDataset(filepath=f"{tempfile.mkdtemp()}/report.html")
    >>> page.save("<p>AUC 0.55</p>")
    >>> page.load()
    '<p>AUC 0.55</p>'
    """

    def read(self, path: Path) -> str:
        """Return the page's source."""
        return path.read_text(encoding="utf-8")

    def write(self, data: str, path: Path) -> None:
        """Write the page's source; what UTF-8 cannot hold (names of files may be of other encodings) is escaped."""
        path.write_text(data, encoding="utf-8", errors="backslashreplace")

    def preview(self) -> HTMLPreview:
        """Show the page in kedro-viz."""
        return HTMLPreview(self.load())
