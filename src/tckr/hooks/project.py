"""What hooks ask of the project: where a dataset lies, which commit is checked out."""

import subprocess
from pathlib import Path
from typing import Any

from kedro.io.core import AbstractVersionedDataset


def saved_path(dataset: Any) -> Path:
    """Return where `dataset` has just been saved; Kedro has no public way to ask."""
    if isinstance(dataset, AbstractVersionedDataset) and dataset.resolve_save_version() is not None:
        return Path(dataset._get_versioned_path(dataset.resolve_save_version()))
    return Path(dataset._filepath)


def git_state(project: Path) -> dict[str, str]:
    """Return the commit and whether files differ from it; empty where there is no repository."""

    def git(*words: str) -> str:
        done = subprocess.run(  # noqa: S603
            ["git", *words],  # noqa: S607
            cwd=project,
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        )
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return {"git_commit": git("rev-parse", "HEAD"), "git_changed": str(bool(changed)).lower()}
    except (OSError, subprocess.SubprocessError):
        return {}
