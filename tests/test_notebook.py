"""The notebook opens what a run left behind."""

import subprocess
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "notebooks/explore_a_run.ipynb"


@pytest.mark.slow
def test_the_notebook_shows_the_last_run(
    project: Path, finished: subprocess.CompletedProcess[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TCKR_PROJECT", str(project))
    monkeypatch.setenv("TCKR_ENV", "test")
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1] / "src"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=300).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in shown) >= 4
    assert any("recycled (student)" in str(output.get("data", {})) for output in shown)
